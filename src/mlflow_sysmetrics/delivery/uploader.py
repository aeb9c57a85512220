"""One thread a process: it sends what waits in the outboxes, and tries again what failed."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.outbox import Outbox, Point
from mlflow_sysmetrics.delivery.tracking import MAX_METRICS_A_BATCH, Refused
from mlflow_sysmetrics.notices import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_sysmetrics.delivery.tracking import RunStore

FLUSH_INTERVAL_S = 10.0
"""Samples reach the store within this time, if the store is well."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_SLACK_S = 0.5  # so that a tick a little before the flush is due goes with it


@dataclass(eq=False)
class Stream:
    """The points of one run on their way to its store.

    Attributes:
        name: The run, for messages.
        open_store: Makes the store; called in the uploader's thread.
        tags: For a resumed run: gives the tags to set where it has none. None for a new run.
        outbox: What waits.
        refused: Why the store will take nothing more; None while it does.
    """

    name: str
    open_store: Callable[[], RunStore]
    tags: Callable[[], Mapping[str, str]] | None = None
    outbox: Outbox = field(default_factory=Outbox)
    refused: str | None = None
    closing: bool = False
    failures: int = 0
    flush_s: float = 0.0  # when its outbox is due to be sent
    retry_s: float = 0.0  # and not before this, after a failure
    first_step: int | None = None
    store: RunStore | None = None

    def __post_init__(self) -> None:
        if self.tags is None:
            self.first_step = 0

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do for it now."""
        return self.refused is not None or (self.first_step is not None and not self.outbox)

    def due_s(self) -> float | None:
        """When there is something to do for it; None while there is nothing."""
        if self.settled:
            return None
        now = self.closing or self.first_step is None
        return self.retry_s if now else max(self.flush_s, self.retry_s)


class Uploader:
    """The thread that sends while any stream is open.

    Attributes:
        busy: Held while MLflow's client works; a fork waits for it.
    """

    def __init__(self) -> None:
        self.busy = threading.RLock()
        self._condition = threading.Condition()
        self._streams: list[Stream] = []
        self._thread: threading.Thread | None = None

    def open(self, stream: Stream) -> None:
        """Begin to send for `stream`; returns at once.

        Raises:
            RuntimeError: No thread can be started (interpreter shutdown).
        """
        with self._condition:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="mlflow-sysmetrics-uploader", daemon=True
                )
                thread.start()
                self._thread = thread
            stream.flush_s = time.monotonic() + FLUSH_INTERVAL_S - _SLACK_S
            self._streams.append(stream)
            self._condition.notify_all()

    def put(self, stream: Stream, points: list[Point]) -> None:
        """Let points wait for the next flush; never blocks on the store."""
        with self._condition:
            if stream.refused is None:
                stream.outbox.add(points)
                self._condition.notify_all()

    def close(self, stream: Stream, timeout_s: float) -> int:
        """Send what waits, for no longer than `timeout_s`.

        Returns:
            Points that are not sent yet; they are tried on while the process lives.
        """
        with self._condition:
            stream.closing = True
            stream.retry_s = 0.0
            self._condition.notify_all()
            self._condition.wait_for(lambda: stream.settled, timeout_s)
            return len(stream.outbox)

    def _run(self) -> None:
        while stream := self._wait_for_due():
            with self.busy:
                self._attend(stream)

    def _wait_for_due(self) -> Stream | None:
        """The stream to send for now; None when the last one is closed and sent."""
        with self._condition:
            while True:
                self._streams = [s for s in self._streams if not (s.closing and s.settled)]
                self._condition.notify_all()
                if not self._streams:
                    self._thread = None
                    return None
                due = [(due_s, s) for s in self._streams if (due_s := s.due_s()) is not None]
                first_s, first = min(due, key=lambda pair: pair[0], default=(None, None))
                if first_s is None:
                    self._condition.wait()
                elif (wait_s := first_s - time.monotonic()) > 0:
                    self._condition.wait(wait_s)
                else:
                    return first

    def _attend(self, stream: Stream) -> None:
        try:
            self._send(stream)
        except Refused as reason:
            self._give_up(stream, str(reason))
        except Exception as error:  # noqa: BLE001 - one failed request must not end delivery
            self._put_off(stream, error)
        else:
            if stream.failures:
                logger.info("mlflow-sysmetrics: sending metrics of %s works again", stream.name)
            stream.failures = 0

    def _send(self, stream: Stream) -> None:
        """Send one batch; the next goes at once, but for a fork or another run that waits."""
        if stream.store is None:
            stream.store = stream.open_store()
        if stream.first_step is None:
            tags = stream.tags() if stream.tags is not None else {}
            stream.first_step = stream.store.resume(tags)
        with self._condition:
            batch = stream.outbox.peek(MAX_METRICS_A_BATCH)
        if batch:
            first_step = stream.first_step
            stream.store.log([point._replace(step=first_step + point.step) for point in batch])
        with self._condition:
            stream.outbox.remove(batch)
            if not stream.outbox:
                stream.flush_s = time.monotonic() + FLUSH_INTERVAL_S - _SLACK_S

    def _put_off(self, stream: Stream, error: Exception) -> None:
        stream.failures += 1
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (stream.failures - 1))
        stream.retry_s = time.monotonic() + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        if stream.failures == 1:
            logger.warning(
                "mlflow-sysmetrics: metrics of %s could not be sent and will be sent later: %s",
                stream.name,
                error,
            )

    def _give_up(self, stream: Stream, reason: str) -> None:
        with self._condition:
            stream.refused = reason
            lost = len(stream.outbox)
            stream.outbox = Outbox()
        logger.warning(
            "mlflow-sysmetrics: the store takes no metrics of %s, %d points are lost: %s",
            stream.name,
            lost,
            reason,
        )
