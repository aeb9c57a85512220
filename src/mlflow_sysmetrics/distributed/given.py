"""Whether a run or a node's name was given to this process by hand: then nothing is automatic."""

from __future__ import annotations

import os

_VARIABLES = ("MLFLOW_RUN_ID", "MLFLOW_SYSTEM_METRICS_NODE_ID")


class _Given:
    """What was seen so far: MLflow removes the variable that gives a run when it opens that."""

    is_seen = False


def is_given_by_hand() -> bool:
    """Whether one of the variables is set, or was when this was asked before."""
    _Given.is_seen = _Given.is_seen or any(os.environ.get(name) for name in _VARIABLES)
    return _Given.is_seen
