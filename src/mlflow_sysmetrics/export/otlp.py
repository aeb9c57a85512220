"""Export over OTLP, to the receiver that OpenTelemetry's standard variables name."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from mlflow_sysmetrics.export.contract import Exporter, require_extra
from mlflow_sysmetrics.export.otlp_failure import NotSent
from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.host.forks import CallLock, ForkOrder, hold_during_fork
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.log.addresses import shown_address, shown_text
from mlflow_sysmetrics.log.isolation import Isolated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_sysmetrics.export.contract import ExportedRun, Sample

PACE_S = 5.0
"""Least time between two requests, for a run that is sampled more often."""

LINGER_S = 5.0
"""How long the thread stays after the last sample, as the sampler's does."""

_MAX_WAITING = 100_000
"""Values that wait for a receiver at most: some hours of a run, some 15 MB. The newest are kept."""

_MAX_REQUEST = 5_000
"""Values in one request, less than a megabyte: what receivers take at once is limited."""

_LONGEST_PAUSE_S = 60.0
_PACKAGE = "opentelemetry.exporter.otlp.proto.http"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"


class Sender(Protocol):
    """Sends samples to the receiver."""

    def send(self, samples: Sequence[Sample]) -> None:
        """Send.

        Raises:
            NotSent: The receiver did not take them.
        """


def open_otlp(target: str) -> OtlpExporter:  # noqa: ARG001 - as all openers; it has no options
    """The exporter for the target `otlp`.

    Raises:
        CannotExport: OpenTelemetry's exporter is not installed.
    """
    require_extra("otlp", _PACKAGE)
    return OtlpExporter()


def describe_otlp(target: str) -> str:  # noqa: ARG001 - as all
    """Where samples are sent, and how.

    Raises:
        CannotExport: OpenTelemetry's exporter is not installed.
    """
    require_extra("otlp", _PACKAGE)
    counters = "increases (delta)" if _prefers_delta() else "totals (cumulative)"
    return f"sends to {receiver_address()}, counters as {counters}"


def receiver_address() -> str:
    """Where the standard variables say that the receiver is, without secrets."""
    whole = os.environ.get(_METRICS_ENDPOINT)
    base = os.environ.get(_ENDPOINT) or "http://localhost:4318"
    return shown_address(whole or f"{base.rstrip('/')}/v1/metrics")


def _open_sender(busy: CallLock) -> Sender:
    """OpenTelemetry's; it takes a while to import."""
    from mlflow_sysmetrics.export.otlp_client import OtlpClient  # noqa: PLC0415 - as said

    return OtlpClient(busy, is_delta=_prefers_delta())


def _prefers_delta() -> bool:
    return os.environ.get(_TEMPORALITY, "").strip().lower() in {"delta", "lowmemory"}


class OtlpExporter(Exporter):
    """One queue and one thread for all runs of this process.

    Args:
        open_sender: Called by the thread, with the lock to hold while it is in a library.

    Attributes:
        busy: Held while a request is under way; a fork waits for it.
    """

    def __init__(self, open_sender: Callable[[CallLock], Sender] = _open_sender) -> None:
        self.busy = CallLock()
        self._open_sender = open_sender
        self._address = receiver_address()
        self._sender: Sender | None = None
        self._begin_anew()
        hold_during_fork(self, ForkOrder.EXPORTER)

    def _begin_anew(self) -> None:
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._queue: deque[Sample] = deque()
        self._waiting = 0  # values in the queue
        self._under_way: list[Sample] = []
        self._lost = 0
        self._is_urgent = False
        self._due_s = -math.inf
        self._backoff = Backoff(_LONGEST_PAUSE_S)
        self._outage: Exception | None = None
        self._level = logging.WARNING
        self._waited_in_vain = False

    def put(self, sample: Sample) -> None:
        """See `Exporter`."""
        with self._condition:
            self._queue.append(sample)
            self._waiting += _size(sample)
            self._make_room()
            if self._thread is None or not self._thread.is_alive():
                self._thread = start_thread("otlp", self._run)
            self._condition.notify_all()

    def end(self, run: ExportedRun) -> None:  # noqa: ARG002 - the last samples of any run
        """See `Exporter`."""
        with self._condition:
            self._is_urgent = bool(self._queue)
            self._condition.notify_all()

    def wait(self, timeout_s: float) -> None:
        """See `Exporter`; after one run has waited in vain, others do not, until it is taken."""
        with self._condition:
            timeout_s = 0.0 if self._waited_in_vain else timeout_s
            if not self._condition.wait_for(self._has_sent_all, timeout_s) and timeout_s > 0:
                self._waited_in_vain = True
                self._report(NotSent("no answer within the flush timeout", is_final=False))

    def after_fork_in_child(self) -> None:
        """See `Exporter`."""
        self._sender = None
        self._begin_anew()

    def _has_sent_all(self) -> bool:
        return not (self._queue or self._under_way)

    def _make_room(self) -> None:
        while self._waiting > _MAX_WAITING and len(self._queue) > 1:
            self._waiting -= _size(self._queue.popleft())
            self._lost += 1

    def _run(self) -> None:
        while self._take_next():
            with Isolated() as sending:
                self._send()
            with self._condition:
                self._follow(sending.error)
                self._condition.notify_all()

    def _send(self) -> None:
        if self._sender is None:
            with self.busy:  # it imports much
                self._sender = self._open_sender(self.busy)
        self._sender.send(self._under_way)

    def _take_next(self) -> bool:
        """Take the oldest that wait, once it is time; False when there are none for a while."""
        with self._condition:
            while self._condition.wait_for(lambda: self._queue, LINGER_S):
                due_s = self._backoff.not_before_s if self._outage else self._due_s
                pause_s = 0.0 if self._is_urgent else due_s - time.monotonic()
                if pause_s > 0:
                    self._condition.wait(pause_s)
                    continue
                self._take()
                return True
            self._thread = None
            return False

    def _take(self) -> None:
        """Take as many as one request may have, and at least one."""
        room = _MAX_REQUEST
        while self._queue and (_size(self._queue[0]) <= room or not self._under_way):
            sample = self._queue.popleft()
            room -= _size(sample)
            self._waiting -= _size(sample)
            self._under_way.append(sample)

    def _follow(self, failure: Exception | None) -> None:
        """What an attempt means for the samples and the next one."""
        samples, self._under_way = self._under_way, []
        self._due_s = time.monotonic() + PACE_S
        if failure is None:
            self._backoff.succeed()
            self._waited_in_vain = False
            self._is_urgent = self._is_urgent and bool(self._queue)
            self._report_recovery()
            return
        self._is_urgent = False  # one attempt for the end of a run, not one after the other
        self._backoff.fail(failure, time.monotonic())
        if not _is_final(failure):
            self._queue.extendleft(reversed(samples))
            self._waiting += sum(map(_size, samples))
            self._make_room()
        else:
            self._lost += len(samples)
        self._report(failure)

    def _report(self, failure: Exception) -> None:
        """Say that the receiver takes nothing: once, and quietly if that was said before."""
        if self._outage is not None:
            return
        self._outage = failure
        logger.log(self._level, _WORDS[_is_final(failure)], self._address, shown_text(failure))

    def _report_recovery(self) -> None:
        if self._outage is None:
            return
        self._outage = None
        lost = f"; {self._lost} samples were lost" if self._lost else ""
        logger.log(self._level, "the OTLP receiver %s takes samples again%s", self._address, lost)
        self._lost, self._level = 0, logging.INFO


_WORDS = {
    False: "the OTLP receiver %s takes no samples now; the newest are kept in memory, and sent "
    "when it does: %s",
    True: "no samples are exported to the OTLP receiver %s, and those so far are lost; check the "
    "variables OTEL_EXPORTER_OTLP_…: %s",
}


def _is_final(failure: Exception) -> bool:
    """Whether the same samples would never be taken."""
    return failure.is_final if isinstance(failure, NotSent) else True


def _size(sample: Sample) -> int:
    """Values in it, and one for its run."""
    return len(sample.measurements) + 1
