"""Metrics of AWS Trainium and Inferentia, by what `neuron-monitor` reports."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.contract import Vendor, probe_by_opening
from mlflow_sysmetrics.accelerators.hardware import AMAZON, read_pci_devices
from mlflow_sysmetrics.accelerators.neuron.monitor import COMMAND, parse_neuron_monitor
from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.files import find_paths

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.command_stream import CommandStream
    from mlflow_sysmetrics.host.host import Host

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
