"""From the readings of a sample to the values of exported series."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Protocol

from mlflow_sysmetrics.catalog import Aggregate, exported_as, metrics_of
from mlflow_sysmetrics.catalog.exported import Kind
from mlflow_sysmetrics.export.contract import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.catalog import Metric
    from mlflow_sysmetrics.catalog.exported import Exported
    from mlflow_sysmetrics.sampling.window import Readings
    from mlflow_sysmetrics.settings import Settings

_MIN_SPAN_S = 0.1
"""Below this a rate says nothing: kernels count CPU time in steps of 10 ms."""


class Measuring:
    """The series of one process, from the first sample that it is given.

    Args:
        settings: Say which metrics are wanted.
        to_epoch_s: From the host's clock to seconds since the epoch.

    Attributes:
        started_s: When the counters were 0, in seconds since the epoch; known once sampled.
    """

    def __init__(self, settings: Settings, to_epoch_s: float) -> None:
        self.started_s = 0.0
        self._settings = settings
        self._to_epoch_s = to_epoch_s
        self._feeds: dict[str, tuple[_Feed, ...]] = {}

    def measure(self, sample: Sequence[Readings]) -> list[Measurement]:
        """The values that a sample gives."""
        measured = []
        for time_s, values in sample:
            epoch_s = time_s + self._to_epoch_s
            if not self.started_s:
                self.started_s = epoch_s
            for name, reading in values.items():
                if not isfinite(reading):
                    continue
                feeds = self._feeds.get(name)
                if feeds is None:
                    feeds = self._feeds[name] = self._feeds_of(name)
                for feed in feeds:
                    value = feed.take(reading, time_s, values)
                    if value is not None:
                        measured.append(Measurement(feed.exported, value, epoch_s))
        return measured

    def _feeds_of(self, reading: str) -> tuple[_Feed, ...]:
        return tuple(
            _feed(metric, exported)
            for metric in metrics_of(reading)
            if self._settings.wants(metric.key) and (exported := exported_as(metric)) is not None
        )


class _Feed(Protocol):
    """From the readings of one name to the values of one series."""

    exported: Exported

    def take(self, reading: float, time_s: float, values: Mapping[str, float]) -> float | None:
        """The value, from a reading and what was read with it; None where it says nothing."""


def _feed(metric: Metric, exported: Exported) -> _Feed:
    if exported.instrument.kind is Kind.COUNTER:
        return _Counter(exported)
    if metric.aggregate is Aggregate.RATE:
        return _Rate(exported, metric.per)
    return _Gauge(exported)


class _Gauge:
    """A reading that is a value."""

    def __init__(self, exported: Exported) -> None:
        self.exported = exported

    def take(
        self,
        reading: float,
        time_s: float,  # noqa: ARG002 - a feed's
        values: Mapping[str, float],  # noqa: ARG002 - a feed's
    ) -> float:
        return reading * self.exported.factor


class _Counter:
    """What a counter rose by since the first sample; never falls."""

    def __init__(self, exported: Exported) -> None:
        self.exported = exported
        self._previous: float | None = None
        self._total = 0.0

    def take(
        self,
        reading: float,
        time_s: float,  # noqa: ARG002 - a feed's
        values: Mapping[str, float],  # noqa: ARG002 - a feed's
    ) -> float:
        if self._previous is not None:
            self._total += max(0.0, reading - self._previous)
        self._previous = reading
        return self._total * self.exported.factor


class _Rate:
    """How fast a counter rose since the sample before: a second, or for each step of another."""

    def __init__(self, exported: Exported, per: str | None) -> None:
        self.exported = exported
        self._per = per
        self._start: tuple[float, float, float] | None = None

    def take(self, reading: float, time_s: float, values: Mapping[str, float]) -> float | None:
        divisor = time_s if self._per is None else values.get(self._per)
        if divisor is None:
            return None
        start = self._start
        if start is not None and time_s - start[1] < _MIN_SPAN_S:
            return None
        self._start = (reading, time_s, divisor)
        if start is None or reading < start[0] or divisor <= start[2]:
            return None
        return (reading - start[0]) / (divisor - start[2]) * self.exported.factor
