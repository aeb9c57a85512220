"""What is said to the user: each thing once, so that a log stays readable."""

from __future__ import annotations

import logging

logger = logging.getLogger("mlflow_sysmetrics")

_said: set[str] = set()


def warn_once(message: str, subject: str | None = None) -> None:
    """Log a warning that this process has not logged before.

    Args:
        message: What to say.
        subject: What it is about, where one message about that is enough whatever it says.
    """
    key = subject or message
    if key not in _said:
        _said.add(key)
        logger.warning("mlflow-sysmetrics: %s", message)
