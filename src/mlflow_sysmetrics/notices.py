"""What is said to the user: each thing once, so that a log stays readable."""

from __future__ import annotations

import logging

logger = logging.getLogger("mlflow_sysmetrics")

_said: set[str] = set()


def warn_once(message: str) -> None:
    """Log a warning that this process has not logged before."""
    if message not in _said:
        _said.add(message)
        logger.warning("mlflow-sysmetrics: %s", message)
