"""The thread of an exporter that hands on what may block."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log.isolation import contained

if TYPE_CHECKING:
    from collections.abc import Callable


class ExportThread:
    """Does an exporter's work in a thread, which starts with the first and waits for more.

    Args:
        target: Where the work goes, for the thread's name and the warning.
        work: Hands on all that waits; called once for any number of `wake`.
    """

    def __init__(self, target: str, work: Callable[[], None]) -> None:
        self._target = target
        self._work = work
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_pending = False
        self._is_working = False

    def wake(self) -> None:
        """There is work; returns at once.

        Raises:
            RuntimeError: No thread can be started (interpreter shutdown).
        """
        with self._condition:
            self._is_pending = True
            if self._thread is None:
                self._thread = start_thread(f"export-{self._target}", self._run)
            self._condition.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Wait until there is no work left, or for a timeout."""
        with self._condition:
            self._condition.wait_for(lambda: not (self._is_pending or self._is_working), timeout_s)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._is_working = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._is_pending)
                self._is_pending, self._is_working = False, True
            with contained(f"some samples were not exported to {self._target}"):
                self._work()
