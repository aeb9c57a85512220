"""From samples to the data of OpenTelemetry's SDK, with the samples' own times."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from mlflow_sysmetrics.catalog.exported import Kind
from mlflow_sysmetrics.catalog.exports import RUN_INFO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.catalog.exported import Attributes, Exported, Instrument
    from mlflow_sysmetrics.export.contract import ExportedRun, Measurement, Sample

SERVICE = "mlflow-sysmetrics"
"""`service.name`, unless OTEL_SERVICE_NAME says something else."""

_SCOPE = InstrumentationScope("mlflow_sysmetrics")


class _Sent(NamedTuple):
    """The last point of a counter that the receiver has."""

    value: float
    time_ns: int


class _Series:
    """One series of one run.

    Args:
        sample: The first that has it.
        exported: What it is.
    """

    def __init__(self, sample: Sample, exported: Exported) -> None:
        self.instrument = exported.instrument
        self.attributes = dict((*sample.labels, *exported.attributes))
        self.started_ns = _ns(sample.started_s)
        self.sent = _Sent(0.0, self.started_ns)


class MetricsBuilder:
    """Makes requests of samples.

    Args:
        is_delta: Whether a counter's points say what it rose by since the last point that the
            receiver has; else since the run opened.
    """

    def __init__(self, *, is_delta: bool) -> None:
        self._is_delta = is_delta
        self._runs: WeakKeyDictionary[ExportedRun, dict[int, _Series]] = WeakKeyDictionary()
        self._resources: WeakKeyDictionary[ExportedRun, tuple[Attributes, Resource]] = (
            WeakKeyDictionary()
        )
        self._pending: dict[_Series, _Sent] = {}

    def build(self, samples: Sequence[Sample]) -> MetricsData:
        """A request; what it changes for later ones waits for `confirm`."""
        self._pending = {}
        by_run: dict[ExportedRun, list[Sample]] = {}
        for sample in samples:
            by_run.setdefault(sample.run, []).append(sample)
        return MetricsData([self._of_run(each) for each in by_run.values()])

    def confirm(self) -> None:
        """The receiver has what was built last."""
        for series, sent in self._pending.items():
            series.sent = sent
        self._pending = {}

    def _of_run(self, samples: list[Sample]) -> ResourceMetrics:
        known = self._runs.setdefault(samples[0].run, {})
        points: dict[str, tuple[Instrument, list[NumberDataPoint]]] = {}
        for sample in samples:
            for measurement in sample.measurements:
                # The same object in all samples, and kept alive by the run's.
                series = known.get(id(measurement.exported))
                if series is None:
                    series = _Series(sample, measurement.exported)
                    known[id(measurement.exported)] = series
                instrument = series.instrument
                of_name = points.setdefault(instrument.name, (instrument, []))
                of_name[1].append(self._point(series, measurement))
        metrics = [self._metric(*each) for each in points.values()]
        last = samples[-1]
        if last.info:
            metrics.append(self._metric(RUN_INFO, [_info_point(last)]))
        scope = ScopeMetrics(_SCOPE, metrics, "")
        return ResourceMetrics(self._resource_of(last), [scope], "")

    def _resource_of(self, sample: Sample) -> Resource:
        """That of a run; making one takes OpenTelemetry as long as sending."""
        known = self._resources.get(sample.run)
        if known is None or known[0] != sample.info:
            known = self._resources[sample.run] = (sample.info, _resource(sample))
        return known[1]

    def _point(self, series: _Series, measurement: Measurement) -> NumberDataPoint:
        value, time_ns, started_ns = measurement.value, _ns(measurement.time_s), series.started_ns
        if self._is_delta and series.instrument.kind is Kind.COUNTER:
            before = self._pending.get(series, series.sent)
            self._pending[series] = _Sent(value, time_ns)
            value, started_ns = value - before.value, before.time_ns
        return NumberDataPoint(series.attributes, started_ns, time_ns, value)

    def _metric(self, instrument: Instrument, points: list[NumberDataPoint]) -> Metric:
        data: Gauge | Sum
        if instrument.kind is Kind.GAUGE:
            data = Gauge(points)
        else:
            is_counter = instrument.kind is Kind.COUNTER
            temporality = (
                AggregationTemporality.DELTA
                if is_counter and self._is_delta
                else AggregationTemporality.CUMULATIVE
            )
            data = Sum(points, temporality, is_counter)
        return Metric(instrument.name, instrument.description, instrument.unit, data)


def _info_point(sample: Sample) -> NumberDataPoint:
    taken_ns = _ns(sample.taken_s)
    return NumberDataPoint(dict((*sample.labels, *sample.info)), taken_ns, taken_ns, 1)


def _resource(sample: Sample) -> Resource:
    """What sends: one run on one host; OTEL_RESOURCE_ATTRIBUTES win."""
    run, info = sample.run, dict(sample.info)
    attributes = {
        "service.name": SERVICE,
        "service.instance.id": f"{run.run_id}/{run.node}",
        "mlflow.run_id": run.run_id,
    }
    if "host" in info:
        attributes["host.name"] = info["host"]
    return Resource.create(attributes).merge(OTELResourceDetector().detect())


def _ns(time_s: float) -> int:
    """To the millisecond, as the run's store has it."""
    return round(time_s * 1000) * 1_000_000
