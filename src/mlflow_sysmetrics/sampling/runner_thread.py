"""A collector whose calls may block for seconds, asked in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.forks import CallLock, ForkOrder, hold_during_fork
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log import warn_of_shortage

if TYPE_CHECKING:
    from mlflow_sysmetrics.sampling.runner import CollectorRunner
    from mlflow_sysmetrics.sampling.window import Readings


class RunnerThread:
    """Asks a member, and lets nobody else wait for it; what comes late is there the next time.

    Each asking has a new thread: between two there is none to end, or to see to in a fork.

    Args:
        member: Who is asked.

    Attributes:
        busy: Held while the member is asked; a fork waits for it.
    """

    def __init__(self, member: CollectorRunner) -> None:
        self.member = member
        self.busy = CallLock()
        self._thread: threading.Thread | None = None
        self._done: deque[tuple[Readings | None, float]] = deque()
        hold_during_fork(self, ForkOrder.COLLECTOR)

    @property
    def may_block(self) -> bool:
        """Whether asking the member here may take seconds, or it is being asked already."""
        return self._is_running or self.member.may_block

    def begin(self, *, is_last: bool = False, only_open: bool = False) -> bool:
        """Ask for a sample and return at once; False where there is none to wait for.

        That is where the one before is still under way, the host does not have the collector, or
        the process may have no more threads. At the interpreter's exit, when none can be started,
        it is asked in this one.

        Args:
            is_last: Whether it is the last one of a run.
            only_open: Open the collector and ask for nothing more.
        """
        if self._is_running or not self.member.may_be_opened:
            return False
        try:
            self._thread = start_thread("slow", self._run, is_last, only_open)
        except RuntimeError as error:
            if threading.main_thread().is_alive():
                warn_of_shortage(f"what the {self.member.name} metrics are made of", error)
                return False
            self._run(is_last, only_open)
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait until what was asked for is there, or as long as allowed."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def take(self) -> tuple[list[Readings], float]:
        """The samples that have come since the last call, and the CPU time they cost."""
        samples: list[Readings] = []
        total_cost_s = 0.0
        while self._done:
            readings, cost_s = self._done.popleft()
            samples += [readings] if readings is not None else []
            total_cost_s += cost_s
        return samples, total_cost_s

    def close(self, timeout_s: float) -> None:
        """Close the member unless a call that blocks has it still; may be called twice."""
        self.wait(timeout_s)
        if not self._is_running:
            self.member.close()

    @property
    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self, is_last: bool, only_open: bool) -> None:  # noqa: FBT001 - a thread's arguments
        with self.busy:
            self.member.open()
            readings = None if only_open else self.member.sample(is_last=is_last)
        self._done.append((readings, self.member.cost_s))
