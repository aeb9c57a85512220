"""`neuron-monitor`, which reports in a stream of JSON what AWS Trainium and Inferentia do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_sysmetrics.sources import MOST, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMMAND = ("neuron-monitor",)
"""Without a configuration it reports every 5 seconds, one line a report."""

_CORE = re.compile(r"[0-9]{1,6}")
_NO_AMOUNT = (ValueError, TypeError, OverflowError)


class CoreUse(NamedTuple):
    """Use of the NeuronCores, by their numbers on the host.

    Attributes:
        utilization_percent: Share of time in which it computed.
        memory_bytes: Device memory that is charged to it.
    """

    utilization_percent: dict[int, float]
    memory_bytes: dict[int, float]


def parse_neuron_monitor(text: str) -> CoreUse:
    """What one report says.

        {"neuron_runtime_data": [{"pid": 20843, "report": {
          "neuroncore_counters": {"neuroncores_in_use": {"0": {"neuroncore_utilization": 2.9}}},
          "memory_used": {"neuron_runtime_used_bytes": {"usage_breakdown": {
            "neuroncore_memory_usage": {"0": {"constants": 61766864, "tensors": 0, …}}}}}}}], …}

    Each runtime (a process that uses Neuron) reports its own use; the use of a core by several is
    their sum. Only cores that a process uses are listed.

    Raises:
        ParseError: It is no such report.
    """
    try:
        runtimes = json.loads(text)["neuron_runtime_data"] or ()
        reports = [runtime["report"] for runtime in runtimes]
        return CoreUse(
            _sums(amount for report in reports for amount in _utilizations(report)),
            _sums(amount for report in reports for amount in _memory(report)),
        )
    # RecursionError: JSON nested too deep
    except (*_NO_AMOUNT, KeyError, AttributeError, RecursionError) as error:
        raise ParseError("a report of neuron-monitor", text) from error


def _sums(amounts: Iterable[tuple[str, Any]]) -> dict[int, float]:
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
