"""The way of one run's records to its store: opened with the run, closed with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.sampling.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.delivery.stream import Stream
    from mlflow_sysmetrics.delivery.uploader import Uploader
    from mlflow_sysmetrics.sampling.sink import Record


class Channel(Sink):
    """Delivery of one run; see `Sink` for its methods.

    Args:
        stream: What waits of the run.
        uploader: Sends it.
        on_end: Called when someone else has ended the run, which is then asked about now and then;
            None for a run that nobody else ends.

    Raises:
        RuntimeError: No thread can be started (interpreter shutdown).
    """

    def __init__(
        self, stream: Stream, uploader: Uploader, on_end: Callable[[], None] | None = None
    ) -> None:
        self._stream = stream
        self._uploader = uploader
        self._sending = uploader.open(stream, on_end)

    def put(self, record: Record) -> None:
        """Let a record wait for the next flush."""
        self._uploader.put(self._sending, record)

    def end(self) -> None:
        """Send what waits now."""
        self._uploader.end(self._sending)

    def close(self, timeout_s: float) -> None:
        """Send what waits; what is left then is saved on disk, which a warning says."""
        unsent = self._uploader.close(self._sending, timeout_s)
        if unsent:
            logger.warning(
                "%d samples of %s are not uploaded yet; retrying until the process exits%s",
                unsent,
                self._stream.address,
                self._what_then(unsent),
            )

    def _what_then(self, unsent: int) -> str:
        """What becomes of unsent samples when the process exits."""
        at_risk = self._stream.unpersisted
        lost = f"; {at_risk} samples are in memory only, and lost at its exit" if at_risk else ""
        if at_risk >= unsent:
            return lost
        path = self._stream.spool_path
        return f"; `mlflow-sysmetrics upload` sends the rest later (from {path}){lost}"
