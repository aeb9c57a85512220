"""`neuron-monitor`, which reports in a stream of JSON what AWS Trainium and Inferentia do."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_sysmetrics.host import Absent, Unavailable
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.accelerator_hardware import has_neuron_hardware

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_sysmetrics.host import Host

COMMAND = ("neuron-monitor",)
"""Without a configuration it reports every 5 seconds, one line a report."""

_CORE = re.compile(r"[0-9]{1,6}")


class CoreUse(NamedTuple):
    """Use of each NeuronCore, by its number on the host.

    Attributes:
        utilization_percent: Share of time in which it computed.
        memory_bytes: Device memory that is charged to it.
    """

    utilization_percent: dict[int, float]
    memory_bytes: dict[int, float]


def check_neuron_monitor(host: Host) -> None:
    """See whether there is a Neuron device, and the command that reports on it.

    Raises:
        Absent: There is no such device.
        Unavailable: It cannot be asked; the message says why.
    """
    if not any(True for _ in (host.root / "dev").glob("neuron[0-9]*")):
        if has_neuron_hardware(host):
            raise Unavailable(
                "there is a Neuron device, but no /dev/neuron0; install aws-neuronx-dkms, or give "
                "the container its devices (docker run --device=/dev/neuron0)"
            )
        raise Absent("no Neuron device (/dev/neuron0)")
    if not host.has_command(COMMAND[0]):
        raise Unavailable(f"{COMMAND[0]} is not installed; it comes with aws-neuronx-tools")


def parse_neuron_monitor(text: str) -> CoreUse:
    """What one report says.

        {"neuron_runtime_data": [{"pid": 20843, "report": {
          "neuroncore_counters": {"neuroncores_in_use": {"0": {"neuroncore_utilization": 2.9}}},
          "memory_used": {"neuron_runtime_used_bytes": {"usage_breakdown": {
            "neuroncore_memory_usage": {"0": {"constants": 61766864, "tensors": 0, …}}}}}}}], …}

    Each runtime (a process that uses Neuron) reports its own use; what several report of a core is
    added up. No core is in it while no process uses any.

    Raises:
        ParseError: It is no such report.
    """
    utilization: dict[int, float] = defaultdict(float)
    memory: dict[int, float] = defaultdict(float)
    try:
        for runtime in json.loads(text)["neuron_runtime_data"] or ():
            for core, percent in _utilizations(runtime["report"]):
                utilization[core] += percent
            for core, used_bytes in _memory(runtime["report"]):
                memory[core] += used_bytes
    # RecursionError: JSON nested too deep
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise ParseError("a report of neuron-monitor", text) from error
    return CoreUse(dict(utilization), dict(memory))


def _utilizations(report: dict[str, Any]) -> Iterator[tuple[int, float]]:
    cores = (report.get("neuroncore_counters") or {}).get("neuroncores_in_use") or {}
    for core, counters in cores.items():
        if "neuroncore_utilization" in counters:
            yield _core(core), _amount(counters["neuroncore_utilization"])


def _memory(report: dict[str, Any]) -> Iterator[tuple[int, float]]:
    used = (report.get("memory_used") or {}).get("neuron_runtime_used_bytes") or {}
    by_core = (used.get("usage_breakdown") or {}).get("neuroncore_memory_usage") or {}
    for core, parts in by_core.items():
        yield _core(core), sum(map(_amount, parts.values()))


def _core(text: str) -> int:
    if _CORE.fullmatch(text) is None:
        raise ValueError(text)
    return int(text)


def _amount(number: float) -> float:
    amount = float(number)
    if not math.isfinite(amount) or amount < 0:
        raise ValueError(number)
    return amount
