"""Every tag and every metric: key, unit, how it aggregates, what it means, where it comes from.

Collectors hand over *readings*: plain numbers under a name. A gauge's reading carries the name
of its metric; a counter's reading (`network_receive_bytes`) may feed several metrics, a total and
a rate. `metrics_of` gives them. The reference tables of the documentation are made from here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog.accelerators import (
    ACCELERATOR_METRICS,
    GPU_METRICS,
    gpu_name,
)
from mlflow_sysmetrics.catalog.container import CONTAINER_METRICS, PRESSURE_METRICS
from mlflow_sysmetrics.catalog.exported import Exported
from mlflow_sysmetrics.catalog.exports import EXPORTS
from mlflow_sysmetrics.catalog.host import HOST_METRICS
from mlflow_sysmetrics.catalog.model import (
    MAX_TAG_LENGTH,
    PREFIX,
    PROCESS_PREFIX,
    Aggregate,
    Metric,
    Tag,
)
from mlflow_sysmetrics.catalog.process import PROCESS_METRICS
from mlflow_sysmetrics.catalog.summary import (
    STATISTICS,
    SUMMARY,
    SummaryValue,
    summary_name,
)
from mlflow_sysmetrics.catalog.tags import TAGS

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = [
    "ACCELERATOR_METRICS",
    "CONTAINER_METRICS",
    "EXPORTS",
    "GPU_METRICS",
    "HOST_METRICS",
    "MAX_TAG_LENGTH",
    "METRICS",
    "PREFIX",
    "PRESSURE_METRICS",
    "PROCESS_METRICS",
    "PROCESS_PREFIX",
    "STATISTICS",
    "SUMMARY",
    "TAGS",
    "Aggregate",
    "Metric",
    "SummaryValue",
    "Tag",
    "exported_as",
    "gpu_name",
    "metric_of",
    "metrics_of",
    "summary_name",
]

METRICS = (
    HOST_METRICS
    + PROCESS_METRICS
    + CONTAINER_METRICS
    + PRESSURE_METRICS
    + GPU_METRICS
    + ACCELERATOR_METRICS
)


_BY_KEY = {metric.key: metric for metric in METRICS}
_BY_READING: dict[str, list[Metric]] = {}
for _metric in METRICS:
    _BY_READING.setdefault(_metric.reading, []).append(_metric)

_NUMBER = re.compile("[0-9]+")
_DEVICE_NUMBERS = ("index", "instance")


@lru_cache(maxsize=4096)
def metrics_of(reading: str) -> tuple[Metric, ...]:
    """The metrics that a reading feeds, their device numbers filled in; empty if it feeds none."""
    template, numbers = _template_of(reading, _BY_READING)
    return tuple(_numbered(metric, numbers) for metric in _BY_READING.get(template, ()))


def metric_of(key: str) -> Metric:
    """The metric that is logged under a key (without `system/`), its device number filled in.

    Raises:
        KeyError: There is none.
    """
    template, numbers = _template_of(key, _BY_KEY)
    if template not in _BY_KEY:
        raise KeyError(key)
    return _numbered(_BY_KEY[template], numbers)


@lru_cache(maxsize=4096)
def exported_as(metric: Metric) -> Exported | None:
    """What a metric is outside MLflow, the device numbers of its key in the attributes.

    None for one that is not exported.
    """
    template, numbers = _template_of(metric.key, EXPORTS)
    exported = EXPORTS[template]
    if not isinstance(exported, Exported):
        return None
    instrument = exported.instrument
    if not instrument.description:
        instrument = replace(instrument, description=metric.meaning)
    attributes = exported.attributes
    if numbers:
        attributes = tuple((name, value.format_map(numbers)) for name, value in attributes)
    return Exported(instrument, exported.factor, attributes)


def _template_of(name: str, known: Container[str]) -> tuple[str, dict[str, str]]:
    """The name with its device numbers taken out, and those.

    `gpu_3/temperature_celsius` is `gpu_{index}/temperature_celsius` with index `3`.
    """
    if name in known:
        return name, {}
    numbers = dict(zip(_DEVICE_NUMBERS, _NUMBER.findall(name), strict=False))
    template = name
    for place, number in numbers.items():
        template = template.replace(number, f"{{{place}}}", 1)
    return template, numbers


def _numbered(metric: Metric, numbers: dict[str, str]) -> Metric:
    if not numbers:
        return metric
    return replace(
        metric,
        key=metric.key.format_map(numbers),
        reading=metric.reading.format_map(numbers),
        per=metric.per and metric.per.format_map(numbers),
    )
