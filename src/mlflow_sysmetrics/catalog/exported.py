"""How a metric is called and measured outside MLflow: as OpenTelemetry defines it, and Prometheus.

Prometheus has the names that its translation of OTLP gives, so that one query serves both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

Attributes: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values of OpenTelemetry attributes, which are Prometheus's labels."""


class Kind(Enum):
    """What a value is, in OpenTelemetry's words; the last two are gauges to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    UP_DOWN = "up-down counter"


@dataclass(frozen=True)
class Instrument:
    """What several series have in common.

    Attributes:
        name: OpenTelemetry's name, or one of ours below `mlflow.sysmetrics.`.
        unit: Unit, as UCUM writes it; empty for none.
        kind: What its values are.
        description: What it says; empty where only one metric is exported as it, which says it.
    """

    name: str
    unit: str
    kind: Kind
    description: str = ""

    @property
    def prometheus_name(self) -> str:
        """Its name in Prometheus."""
        return prometheus_name(self.name, self.unit, self.kind)

    @property
    def prometheus_type(self) -> str:
        """Its type in Prometheus."""
        return "counter" if self.kind is Kind.COUNTER else "gauge"


@dataclass(frozen=True, eq=False)
class Exported:
    """What one of our metrics is outside MLflow; one object for each series.

    Attributes:
        instrument: Its name, unit and kind.
        factor: From the unit of the metric's reading to the instrument's.
        attributes: What tells its series from the instrument's others; `{index}` and `{instance}`
            as in the metric's key.
    """

    instrument: Instrument
    factor: float = 1.0
    attributes: Attributes = ()


@dataclass(frozen=True)
class NotExported:
    """A metric that can be computed from others.

    Attributes:
        why: From which.
    """

    why: str


_UNITS = {
    "By": "bytes",
    "Cel": "celsius",
    "Hz": "hertz",
    "J": "joules",
    "W": "watts",
    "s": "seconds",
}


def prometheus_name(name: str, unit: str, kind: Kind) -> str:
    """The name that Prometheus's translation of OTLP gives.

    `system.disk.io` in `By`, a counter, is `system_disk_io_bytes_total`; `hw.gpu.utilization` in
    `1`, a gauge, is `hw_gpu_utilization_ratio`.
    """
    words = re.findall("[A-Za-z0-9]+", name)
    main, _, per = unit.partition("/")
    if (suffix := _UNITS.get(main)) is not None and suffix not in words:
        words.append(suffix)
    if per:
        words += ["per", {"s": "second"}[per]]
    if kind is Kind.COUNTER:
        words = [*(word for word in words if word != "total"), "total"]
    elif unit == "1" and kind is Kind.GAUGE:
        words = [*(word for word in words if word != "ratio"), "ratio"]
    return "_".join(words)


def prometheus_label(attribute: str) -> str:
    """The label that an attribute is: `hw.gpu.task` is `hw_gpu_task`."""
    return re.sub(r"\W", "_", attribute, flags=re.ASCII)
