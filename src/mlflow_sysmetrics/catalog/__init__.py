"""Every tag and every metric: key, unit, how it aggregates, what it means, where it comes from.

Collectors hand over *readings*: plain numbers under a name. A gauge's reading carries the name
of its metric; a counter's reading (`network_receive_bytes`) may feed several metrics, a total and
a rate. `metrics_of` gives them. The reference tables of the documentation are made from here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from mlflow_sysmetrics.catalog.accelerators import ACCELERATOR_METRICS
from mlflow_sysmetrics.catalog.container import CONTAINER_METRICS, PRESSURE_METRICS
from mlflow_sysmetrics.catalog.gpu import GPU_METRICS, gpu_name
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

__all__ = [
    "ACCELERATOR_METRICS",
    "CONTAINER_METRICS",
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


@lru_cache(maxsize=4096)
def metrics_of(reading: str) -> tuple[Metric, ...]:
    """The metrics that a reading feeds, their device numbers filled in; empty if it feeds none."""
    found = ((metric, _numbers(metric.reading, reading)) for metric in METRICS)
    return tuple(_numbered(metric, numbers) for metric, numbers in found if numbers is not None)


def metric_of(key: str) -> Metric:
    """The metric that is logged under a key (without `system/`), its device number filled in.

    Raises:
        KeyError: There is none.
    """
    for metric in METRICS:
        numbers = _numbers(metric.key, key)
        if numbers is not None:
            return _numbered(metric, numbers)
    raise KeyError(key)


def _numbers(template: str, name: str) -> dict[str, str] | None:
    """The device numbers in a name of this template; None for other names.

    `gpu_3/temperature_celsius` has index `3` by `gpu_{index}/temperature_celsius`.
    """
    match = _pattern(template).fullmatch(name)
    return match.groupdict() if match else None


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    pattern = re.escape(template)
    for part in ("index", "instance"):
        pattern = pattern.replace(re.escape(f"{{{part}}}"), rf"(?P<{part}>[0-9]+)")
    return re.compile(pattern)


def _numbered(metric: Metric, numbers: dict[str, str]) -> Metric:
    if not numbers:
        return metric
    return replace(
        metric,
        key=metric.key.format_map(numbers),
        reading=metric.reading.format_map(numbers),
        per=metric.per and metric.per.format_map(numbers),
    )
