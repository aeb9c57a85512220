"""One open run: what is sampled comes in, what is logged goes out to its sink."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog import PROCESS_PREFIX
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log.isolation import contained
from mlflow_sysmetrics.sampling.runner import PROCESS_TREE
from mlflow_sysmetrics.sampling.sink import SAVE_TIMEOUT_S, Record
from mlflow_sysmetrics.sampling.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_sysmetrics.host.clock import Clock
    from mlflow_sysmetrics.sampling.observer import Notes, Observer
    from mlflow_sysmetrics.sampling.runners import CollectorSet
    from mlflow_sysmetrics.sampling.sampler import Sampler
    from mlflow_sysmetrics.sampling.sink import Sink
    from mlflow_sysmetrics.sampling.window import Readings
    from mlflow_sysmetrics.settings import Settings

_SHORT_RUN_S = 1.0
"""A run that ended before this, and before its first tick, gets tags alone."""


class Recorder:
    """Makes what one run logs from the samples that it is handed.

    Args:
        settings: In force for this run.
        collectors: Who is asked for this run.
        sink: Where it goes; open.
        sampler: Where the samples come from.
        clock: Gives the timestamps.
        prefix: What the keys of the process tree's metrics begin with, below `system/`.
        observer: Looks at every sample, and may have something to log of the run as a whole. None
            for nobody.
        on_process_end: Called, by the sampler's thread, when the process has ended that the
            metrics are of: then nothing more is sampled. None to go on without it.
    """

    def __init__(
        self,
        settings: Settings,
        collectors: CollectorSet,
        sink: Sink,
        sampler: Sampler,
        clock: Clock,
        prefix: str = PROCESS_PREFIX,
        on_process_end: Callable[[], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.collectors = collectors
        self._settings = settings
        self._sink = sink
        self._sampler = sampler
        self._clock = clock
        self._prefix = prefix
        self._on_process_end = on_process_end
        self._observer = observer
        self._logged_as = cache(self._key_logged_as)
        self._stopping: threading.Thread | None = None
        self._lock = threading.RLock()
        self._window = Window()
        self._step = 0
        # Timestamps follow the steady clock, so that a wall clock set anew does not shuffle them.
        self._opened_s = self._sampled_s = clock.now_s()
        self._opened_ms = clock.wall_ms()
        self._logged_ms = 0

    @property
    def interval_s(self) -> float:
        """Seconds between two samples."""
        return self._settings.sampling_interval_s

    @property
    def store_timeout_s(self) -> float:
        """Longest time that `close` waits for the store; the disk has the rest of the timeout."""
        timeout_s = self._settings.flush_timeout_s
        return max(timeout_s - SAVE_TIMEOUT_S, timeout_s / 2)

    def open(self) -> None:
        """Begin; returns at once.

        Raises:
            RuntimeError: No thread can be started (interpreter shutdown).
        """
        try:
            self._sampler.subscribe(self)
        except RuntimeError:
            self._sink.end()
            raise

    def take(self, sample: list[Readings]) -> None:
        """Take a sample; log when the window is full."""
        if self._on_process_end is not None and self.collectors.is_gone(PROCESS_TREE):
            self.end()
            self._on_process_end()
            return
        with self._lock:
            self._sink.take(sample)
            self._window.add(sample)
            self._sampled_s = max((each.time_s for each in sample), default=self._sampled_s)
            if self._window.samples >= self._settings.samples_before_logging:
                self._log_window()
            if self._observer is not None:
                self._note(partial(self._observer.take, sample))

    def put(
        self,
        *,
        tags: Mapping[str, str] | None = None,
        summary: Mapping[str, float] | None = None,
    ) -> None:
        """Log tags, and values that describe the whole run; never blocks.

        Not after `stop`, but by whoever is called in it after the last window. Nothing of it can be
        excluded; see `Record` for what the keys are.
        """
        with self._lock:
            now_s = self._clock.now_s()
            self._put(Record(self._step, self._ms_of(now_s), {}, 0, tags or {}, summary or {}))

    def close(self) -> None:
        """Take a last sample and send all; returns within the flush timeout.

        Where that is under two seconds, a disk that hangs takes up to a second of its own.
        """
        began_s = time.monotonic()
        try:
            self.stop(began_s + self.store_timeout_s / 2)
        finally:  # also when Ctrl-C ends the wait
            self.deliver(began_s + self.store_timeout_s)

    def begin_to_stop(self) -> None:
        """Stop while MLflow ends the run: then there is less to wait for afterwards."""
        if self._stopping is None and not self._too_short_to_log():
            deadline_s = time.monotonic() + self.store_timeout_s / 2
            with suppress(RuntimeError):  # the interpreter is shutting down: `stop` does it all
                self._stopping = start_thread("end", self.stop, deadline_s)

    def stop(self, deadline_s: float) -> None:
        """Take a last sample, and begin to send it.

        Args:
            deadline_s: Until when the sample is waited for, on the monotonic clock.
        """
        if self._stopping not in {None, threading.current_thread()}:
            self._stopping.join(max(0.0, deadline_s - time.monotonic()))
            return
        if self._too_short_to_log():
            self._sampler.unsubscribe(self)
        else:
            try:
                self._sampler.finish(self, max(0.0, deadline_s - time.monotonic()))
            finally:  # what there is when Ctrl-C ends the wait is not lost
                self._log_last()
        self._sink.end()

    def deliver(self, deadline_s: float) -> None:
        """Wait until all is sent, or for a deadline; what is left then is kept for later.

        Args:
            deadline_s: Until when the store is waited for, on the monotonic clock.
        """
        self._sink.close(deadline_s - time.monotonic())

    def end(self) -> None:
        """End now, since what was sampled has ended; sends what there is and waits for nothing."""
        self._sampler.unsubscribe(self)
        self._log_last()
        self._sink.end()

    def _log_last(self) -> None:
        with self._lock:
            self._log_window()
            if self._observer is not None:
                self._note(self._observer.close)

    def _note(self, ask: Callable[[], Notes]) -> None:
        """Log what the observer has to say."""
        with contained("the run gets no further summary and findings"):
            notes = ask()
            if notes:
                self.put(tags=notes.tags, summary=notes.summary)
            return
        self._observer = None

    def _too_short_to_log(self) -> bool:
        lasted_s = self._clock.now_s() - self._opened_s
        return lasted_s < _SHORT_RUN_S and not self._step and not self._window.samples

    def _log_window(self) -> None:
        samples = max(self._window.samples, 1)  # the one that a run opens with, where no other came
        values = self._window.close()
        wanted = {
            logged: value for key, value in values.items() if (logged := self._logged_as(key))
        }
        if wanted:
            self._put(Record(self._step, self._ms_of(self._sampled_s), wanted, samples))

    def _put(self, record: Record) -> None:
        self._sink.put(record)
        self._logged_ms = record.timestamp_ms
        self._step += 1

    def _ms_of(self, time_s: float) -> int:
        """Timestamp of the next record; the last may come in the very millisecond of a tick."""
        return max(self._opened_ms + round((time_s - self._opened_s) * 1000), self._logged_ms + 1)

    def _key_logged_as(self, key: str) -> str:
        """The key that is logged, empty where it is not wanted; one string for all samples."""
        if not self._settings.wants(key):
            return ""
        if key.startswith(PROCESS_PREFIX):
            key = self._prefix + key.removeprefix(PROCESS_PREFIX)
        return sys.intern(key)
