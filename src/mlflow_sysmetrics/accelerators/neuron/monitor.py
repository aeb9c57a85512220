"""`neuron-monitor`, which reports in a stream of JSON what AWS Trainium and Inferentia do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_sysmetrics.accelerators.hardware import has_neuron_hardware
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.files import find_paths
from mlflow_sysmetrics.sources import MOST, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow_sysmetrics.host.host import Host

COMMAND = ("neuron-monitor",)
"""Without a configuration it reports every 5 seconds, one line a report."""

_CORE = re.compile(r"[0-9]{1,6}")
_NO_AMOUNT = (ValueError, TypeError, OverflowError)


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
    if not find_paths(host.root, "dev/neuron[0-9]*"):
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
    try:
        runtimes = json.loads(text)["neuron_runtime_data"] or ()
        reports = [runtime["report"] for runtime in runtimes]
        return CoreUse(
            _added_up(each for report in reports for each in _utilizations(report)),
            _added_up(each for report in reports for each in _memory(report)),
        )
    # RecursionError: JSON nested too deep
    except (*_NO_AMOUNT, KeyError, AttributeError, RecursionError) as error:
        raise ParseError("a report of neuron-monitor", text) from error


def _added_up(amounts: Iterable[tuple[str, Any]]) -> dict[int, float]:
    """Sums by core, without those for which one part is no amount: they would be too small."""
    sums: dict[str, float] = {}
    unknown: set[str] = set()
    for core, amount in amounts:
        try:
            sums[core] = sums.get(core, 0.0) + _amount(amount)
        except _NO_AMOUNT:
            unknown.add(core)
    return {int(core): sums[core] for core in sums.keys() - unknown if _CORE.fullmatch(core)}


def _utilizations(report: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    cores = (report.get("neuroncore_counters") or {}).get("neuroncores_in_use") or {}
    for core, counters in cores.items():
        if "neuroncore_utilization" in counters:
            yield core, counters["neuroncore_utilization"]


def _memory(report: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    used = (report.get("memory_used") or {}).get("neuron_runtime_used_bytes") or {}
    by_core = (used.get("usage_breakdown") or {}).get("neuroncore_memory_usage") or {}
    for core, parts in by_core.items():
        for part in parts.values():
            yield core, part


def _amount(number: float) -> float:
    amount = float(number)
    if not 0 <= amount < MOST:  # nor NaN
        raise ValueError(number)
    return amount
