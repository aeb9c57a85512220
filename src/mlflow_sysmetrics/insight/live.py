"""Statistics of a run that goes on: from the readings of collectors, every sample, all metrics."""

from __future__ import annotations

import math
from math import isfinite
from typing import TYPE_CHECKING, Protocol

from mlflow_sysmetrics.catalog import Aggregate, metrics_of
from mlflow_sysmetrics.insight.statistics import Accumulator, Grid, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.catalog import Metric
    from mlflow_sysmetrics.sampling.window import Readings

_MIN_RATE_SPAN_S = 0.1
"""Below this a rate says nothing: kernels count CPU time in steps of 10 ms."""

_AT_ONCE = 4
"""Samples that are put into the statistics together: what has to be at hand is then fetched from
memory once, which is most of the cost."""

_LONGEST_S = 120.0
_MOST_INTERVALS = 10


def covered_s(span_s: float, interval_s: float) -> float:
    """How long a value stands for: since the one before, or after a gap for an interval.

    Args:
        span_s: Time since the value before.
        interval_s: Usual time between two samples.
    """
    is_gap = span_s > max(_LONGEST_S, _MOST_INTERVALS * interval_s)
    return interval_s if is_gap else span_s


class LiveStatistics:
    """Takes the samples of one run.

    Args:
        opened_s: When the run opened, on the host's clock.
        epoch_s: The same, in seconds since the epoch.
        interval_s: Usual time between two samples.

    Attributes:
        samples: Samples so far, but for the one that the run opened with.
        largest_gap_s: Longest time between two samples.
        last_s: When the last sample was, on the host's clock.
    """

    def __init__(self, opened_s: float, epoch_s: float, interval_s: float) -> None:
        self.samples = -1
        self.largest_gap_s = 0.0
        self.last_s = self._opened_s = opened_s
        self._to_epoch_s = epoch_s - opened_s
        self._interval_s = interval_s
        self._grid = Grid()
        self._accumulators: dict[str, Accumulator] = {}
        self._feeds: dict[str, tuple[_Feed, ...]] = {}
        self._waiting: list[Readings] = []
        self._samples_waiting = 0

    @property
    def duration_s(self) -> float:
        """Seconds from the run's opening to the last sample."""
        return self.last_s - self._opened_s

    def add(self, sample: Sequence[Readings]) -> None:
        """Take one sample."""
        newest_s = max((each.time_s for each in sample), default=self.last_s)
        self.largest_gap_s = max(self.largest_gap_s, newest_s - self.last_s)
        self.last_s = max(self.last_s, newest_s)
        self.samples += 1
        self._waiting.extend(sample)
        self._samples_waiting += 1
        if self._samples_waiting >= _AT_ONCE:
            self._fold()

    def statistics(self) -> Snapshot:
        """What is known now, by metric key; for use before the next sample."""
        self._fold()
        return Snapshot(self._accumulators)

    def _fold(self) -> None:
        """Put what waits into the statistics."""
        feeds = self._feeds
        for time_s, values in self._waiting:
            epoch_s = time_s + self._to_epoch_s
            bucket = self._grid.number(epoch_s)
            for name, value in values.items():
                if not isfinite(value):
                    continue
                found = feeds.get(name)
                if found is None:
                    found = feeds[name] = self._feeds_of(name)
                for feed in found:
                    feed.take(epoch_s, bucket, value, values)
        self._waiting.clear()
        self._samples_waiting = 0

    def _feeds_of(self, reading: str) -> tuple[_Feed, ...]:
        return tuple(self._feed(metric) for metric in metrics_of(reading))

    def _feed(self, metric: Metric) -> _Feed:
        accumulator = self._accumulators[metric.key] = Accumulator(metric.key, self._grid)
        if metric.aggregate is Aggregate.RATE:
            return _Rate(metric, accumulator)
        return _Gauge(metric, accumulator, self._interval_s)


class _Feed(Protocol):
    """From the readings of one name to the values of one metric."""

    def take(self, time_s: float, bucket: int, value: float, values: Mapping[str, float]) -> None:
        """Take a reading, and what was read with it."""


class _Gauge:
    """A metric whose readings are its values; of a counter, what it has risen by so far."""

    __slots__ = ("_add", "_interval_s", "_is_total", "_last_s", "_opened", "_scale")

    def __init__(self, metric: Metric, accumulator: Accumulator, interval_s: float) -> None:
        self._scale = metric.scale
        self._is_total = metric.aggregate is Aggregate.TOTAL
        self._opened: float | None = None
        self._last_s = math.inf
        self._interval_s = interval_s
        self._add = accumulator.add

    def take(
        self,
        time_s: float,
        bucket: int,
        value: float,
        values: Mapping[str, float],  # noqa: ARG002 - a feed's
    ) -> None:
        if self._is_total:
            if self._opened is None:
                self._opened = value
            value = max(0.0, value - self._opened)
        span_s = covered_s(time_s - self._last_s, self._interval_s)
        self._last_s = time_s
        self._add(time_s, value * self._scale, span_s, bucket)


class _Rate:
    """A metric that says how fast a counter rises."""

    __slots__ = ("_add", "_per", "_scale", "_start", "_start_per", "_start_s")

    def __init__(self, metric: Metric, accumulator: Accumulator) -> None:
        self._scale = metric.scale
        self._per = metric.per
        self._start: float | None = None
        self._start_s = 0.0
        self._start_per = 0.0
        self._add = accumulator.add

    def take(self, time_s: float, bucket: int, value: float, values: Mapping[str, float]) -> None:
        per = time_s if self._per is None else values.get(self._per)
        if per is None:
            return
        elapsed_s = time_s - self._start_s
        if self._start is not None:
            if elapsed_s < _MIN_RATE_SPAN_S:
                return
            rise, divisor = value - self._start, per - self._start_per
            # A counter that fell was reset: what it did in between is not known.
            if rise >= 0 and divisor > 0:
                self._add(time_s, rise / divisor * self._scale, elapsed_s, bucket)
        self._start, self._start_s, self._start_per = value, time_s, per
