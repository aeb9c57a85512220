"""One thread a process that writes to disk, so that nobody else hangs when a disk does.

A home on a network hangs for minutes, most likely while the tracking server is away, too. So who
samples only asks for a write; who ends a run waits for it, within a bound; and sending goes on,
but for what is on that disk alone. Hence:

- The thread is started by what is to be written, and ends with it. A write that hangs delays those
  after it; meanwhile samples wait in memory, within its bound.
- Where no thread can start, at the interpreter's shutdown, the one who waits writes itself.
- A forked child has neither the thread nor the streams that it writes for.
- All locks are reentrant: a signal handler may end a run while it is being ended.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable


class SpoolWriter:
    """The thread, and what it is to do."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._jobs: dict[Callable[[], object], None] = {}  # in order; the first is being done
        self._thread: threading.Thread | None = None

    def ask(self, job: Callable[[], object]) -> bool:
        """Let something be done, if that is not asked for already; never blocks.

        Returns:
            False where no thread can be started to do it.
        """
        with self._condition:
            if self._thread is None or not self._thread.is_alive():
                try:
                    self._thread = start_thread("spool", self._run)
                except RuntimeError:
                    return False
            self._jobs[job] = None
            return True

    def do(self, job: Callable[[], object], timeout_s: float) -> None:
        """Let something be done, and wait for it, but no longer than `timeout_s`."""
        if not self.ask(job):
            job()
            return
        with self._condition:
            self._condition.wait_for(lambda: job not in self._jobs, timeout_s)

    def _run(self) -> None:
        while job := self._next():
            try:
                job()
            except Exception as error:  # noqa: BLE001 - one stream's failure is not the others'
                logger.warning("samples could not be written to disk: %r", error)
            with self._condition:
                self._jobs.pop(job, None)
                self._condition.notify_all()

    def _next(self) -> Callable[[], object] | None:
        with self._condition:
            job = next(iter(self._jobs), None)
            if job is None:
                self._thread = None
            return job
