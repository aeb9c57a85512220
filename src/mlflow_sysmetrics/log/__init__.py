"""Messages to the user: each warning once, so that a log stays readable."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping


class _Signed(logging.LoggerAdapter):  # type: ignore[type-arg] # generic from Python 3.11 on
    """Puts the plugin's name before messages, and survives a user's handler that fails.

    All other methods log through `log`.
    """

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:  # noqa: ANN401 - the base's
        options.setdefault("stacklevel", 2)  # else this would be the line that logs
        with suppress(Exception):
            super().log(level, msg, *args, **options)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        return f"mlflow-sysmetrics: {msg}", kwargs


logger = _Signed(logging.getLogger("mlflow_sysmetrics"), {})

_said: set[str] = set()


def warn_of_shortage(subject: str, error: Exception) -> None:
    """Warn, once for all subjects, that something cannot be read for want of a resource."""
    message = (
        f"{subject} cannot be read now, and perhaps other metrics and tags: {error}; what is "
        "missing is tried again"
    )
    warn_once(message, "shortage")


def warn_once(message: str, subject: str | None = None) -> None:
    """Log a warning that this process has not logged before.

    Args:
        message: The warning.
        subject: What it is about, if one warning per subject is enough, whatever it says.
    """
    key = subject or message
    if key not in _said:
        _said.add(key)
        logger.warning("%s", message)
