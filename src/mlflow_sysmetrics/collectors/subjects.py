"""Isolates what one collector reads of several subjects: each fails alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable, is_shortage
from mlflow_sysmetrics.log import logger, warn_of_shortage

if TYPE_CHECKING:
    from collections.abc import Callable


class Subjects:
    """What a collector reads, each subject alone: one that fails costs no other its readings.

    A subject that fails is read again at the next sample. The first failure is logged.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._warned: set[str] = set()

    def read(self, subject: str, read: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The readings of one subject; none where it is not there now, or fails.

        Args:
            subject: What to call it in messages.
            read: Reads it.
        """
        try:
            readings = read()
        except Unavailable as reason:
            self._reasons[subject] = str(reason)
            if is_shortage(reason):
                warn_of_shortage(subject, reason)
            return {}
        except Exception as error:  # noqa: BLE001 - whatever it is, the other subjects go on
            self._reasons[subject] = f"{type(error).__name__}: {error}"
            if is_shortage(error):
                warn_of_shortage(subject, error)
            elif subject not in self._warned:
                self._warned.add(subject)
                logger.warning(
                    "%s could not be read and is tried again at each sample: %r", subject, error
                )
            return {}
        self._reasons.pop(subject, None)
        return readings

    def notes(self) -> list[str]:
        """Which subjects the last sample lacks, and why."""
        return [f"{subject} cannot be read: {reason}" for subject, reason in self._reasons.items()]
