"""The handle of one open run: records go in, and its end waits until they are sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.sampling.sink import SAVE_TIMEOUT_S, Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.delivery.stream import Stream
    from mlflow_sysmetrics.delivery.uploader import Uploader
    from mlflow_sysmetrics.sampling.sink import Record


class Channel(Sink):
    """Delivery of one run; see `Sink` for its methods.

    Args:
        uploader: Sends it.
        stream: What is sent.
        on_end: Called when someone else has ended the run, which then is asked about every minute;
            None for a run that nobody else ends.

    Attributes:
        task: The run in the uploader's schedule.

    Raises:
        RuntimeError: No thread can be started (interpreter shutdown).
    """

    def __init__(
        self, uploader: Uploader, stream: Stream, on_end: Callable[[], None] | None = None
    ) -> None:
        self._uploader = uploader
        self.task = uploader.open(stream, on_end)

    def put(self, *records: Record) -> None:
        """Let records wait for the next flush, all for the same one."""
        if self.task.is_gone:
            return
        was_idle = self.task.is_settled
        for record in records:
            self.task.stream.queue.add(record)
        self._uploader.backlog.make_room(self.task.stream)
        if was_idle:  # else the thread knows when it is due
            self._uploader.wake()

    def end(self) -> None:
        """Send what waits now."""
        self._uploader.end(self.task)

    def close(self, timeout_s: float) -> None:
        """Send what waits; what is left then is saved on disk, which a warning says."""
        stream = self.task.stream
        began_s = time.monotonic()
        self.end()
        try:
            self._uploader.wait_until_sent(self.task, timeout_s)
        finally:  # also when Ctrl-C ends the wait
            if not self.task.is_settled:
                disk_s = max(0.0, timeout_s) + SAVE_TIMEOUT_S - (time.monotonic() - began_s)
                self._uploader.backlog.persist(stream, disk_s, is_last=True)
        unsent = 0 if self.task.is_settled else stream.unsent
        if unsent:
            logger.warning(
                "%d samples of %s are not uploaded yet; retrying until the process exits%s",
                unsent,
                stream.address,
                self._what_then(unsent),
            )

    def _what_then(self, unsent: int) -> str:
        """What becomes of unsent samples when the process exits."""
        stream = self.task.stream
        at_risk = stream.queue.unpersisted
        lost = f"; {at_risk} samples are in memory only, and lost at its exit" if at_risk else ""
        if at_risk >= unsent:
            return lost
        return f"; `mlflow-sysmetrics upload` sends the rest later (from {stream.spool_path}){lost}"
