"""Isolates what one collector reads of several subjects: each fails alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.host.errors import Unavailable, is_shortage
from mlflow_sysmetrics.log import logger, warn_of_shortage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_sysmetrics.sources.cgroup_use import CgroupUse
    from mlflow_sysmetrics.sources.kernel_file import KernelFile


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
        if self._reasons:
            self._reasons.pop(subject, None)
        return readings

    def notes(self) -> list[str]:
        """Which subjects the last sample lacks, and why."""
        return [f"{subject} cannot be read: {reason}" for subject, reason in self._reasons.items()]


class SubjectsCollector(Collector):
    """Reads several subjects that have nothing to do with each other.

    Args:
        subjects: Reads each, by what to call it in messages.
        files: What is open meanwhile.
    """

    def __init__(
        self,
        subjects: Mapping[str, Callable[[], dict[str, float]]],
        files: Iterable[KernelFile | CgroupUse] = (),
    ) -> None:
        self._to_read = subjects
        self._files = tuple(files)
        self._subjects = Subjects()

    def collect(self) -> dict[str, float]:
        """The readings of all subjects, less those that fail."""
        readings: dict[str, float] = {}
        for subject, read in self._to_read.items():
            readings.update(self._subjects.read(subject, read))
        return readings

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        return self._subjects.notes()

    def close(self) -> None:
        """Close the files; may be called twice."""
        for file in self._files:
            file.close()
