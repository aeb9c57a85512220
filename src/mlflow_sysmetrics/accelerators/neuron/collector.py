"""AWS Trainium and Inferentia, by the reports of `neuron-monitor`, a stream of JSON."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_sysmetrics.accelerators.contract import Vendor, probe_by_opening
from mlflow_sysmetrics.accelerators.hardware import AMAZON, read_pci_devices
from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.files import find_paths
from mlflow_sysmetrics.sources import MOST, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow_sysmetrics.host.command_stream import CommandStream
    from mlflow_sysmetrics.host.host import Host

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


_MODELS = frozenset(
    ("0x7064", "0x7065", "0x7066", "0x7067", "0x7164", "0x7264", "0x7364")
)  # Inferentia, Trainium, Inferentia 2, Trainium 2


class NeuronCollector:
    """Readings of the NeuronCores that processes use.

    The command is started when it is first asked for, and reports some 5 seconds later; each
    report is handed over once. One that ends is started again, after growing pauses.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stream: CommandStream | None = None
        self._backoff = Backoff()

    def collect(self) -> dict[str, float]:
        """Percentages and megabytes of each core; empty while there is no new report.

        Raises:
            Unavailable: The command has ended, or cannot be started.
            ParseError: What it printed is no report.
        """
        report = self._latest()
        if report is None:
            return {}
        use = parse_neuron_monitor(report)
        self._backoff.succeed()
        readings = {
            f"neuron_{core}/utilization_percentage": percent
            for core, percent in use.utilization_percent.items()
        }
        for core, used_bytes in use.memory_bytes.items():
            readings[f"neuron_{core}/memory_usage_megabytes"] = used_bytes / 1e6
        return readings

    def notes(self) -> list[str]:
        """Why the last sample has no readings."""
        return (
            [f"no NeuronCore metrics now: {self._backoff.reason}"] if self._backoff.reason else []
        )

    def close(self) -> None:
        """End the command; may be called twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _latest(self) -> str | None:
        now_s = self._host.clock.now_s()
        if self._stream is None and not self._backoff.allows(now_s):
            return None
        try:
            if self._stream is None:
                self._stream = self._host.stream(COMMAND)
            return self._stream.latest()
        except Unavailable as reason:
            self.close()
            self._backoff.fail(reason, now_s)
            raise


def open_neuron(host: Host) -> NeuronCollector:
    """Open the collector; nothing is started yet.

    Raises:
        Unavailable: There is no Neuron device, or no `neuron-monitor`.
    """
    _check(host)
    return NeuronCollector(host)


def _check(host: Host) -> None:
    """See whether there is a Neuron device, and the command that reports on it."""
    if not find_paths(host.root, "dev/neuron[0-9]*"):
        if any(device.device in _MODELS for device in read_pci_devices(host, AMAZON)):
            raise Unavailable(
                "there is a Neuron device, but no /dev/neuron0; install aws-neuronx-dkms, or give "
                "the container its devices (docker run --device=/dev/neuron0)"
            )
        raise Absent("no Neuron device (/dev/neuron0)")
    if not host.has_command(COMMAND[0]):
        raise Unavailable(f"{COMMAND[0]} is not installed; it comes with aws-neuronx-tools")


NEURON = Vendor(
    "neuron",
    "neuron-monitor",
    may_block=False,
    probe=partial(probe_by_opening, open_neuron),
    open=open_neuron,
)
