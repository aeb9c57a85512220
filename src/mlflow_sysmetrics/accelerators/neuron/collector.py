"""Metrics of AWS Trainium and Inferentia, by what `neuron-monitor` reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.neuron.monitor import (
    COMMAND,
    check_neuron_monitor,
    parse_neuron_monitor,
)
from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.host.errors import Unavailable

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.command_stream import CommandStream
    from mlflow_sysmetrics.host.host import Host


class NeuronCollector:
    """Readings of the NeuronCores that processes use.

    The command is started when it is first asked for, and reports some 5 seconds later; each
    report is handed over once. One that ends is started again, after growing pauses.

    Args:
        host: Runs the command, and has the time by which a restart pauses.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stream: CommandStream | None = None
        self._guard = Backoff()

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
        self._guard.succeed()
        readings = {
            f"neuron_{core}/utilization_percentage": percent
            for core, percent in use.utilization_percent.items()
        }
        for core, used_bytes in use.memory_bytes.items():
            readings[f"neuron_{core}/memory_usage_megabytes"] = used_bytes / 1e6
        return readings

    def notes(self) -> list[str]:
        """Why there were no readings at the last look."""
        return [f"no NeuronCore metrics now: {self._guard.reason}"] if self._guard.reason else []

    def close(self) -> None:
        """End the command; may be called twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _latest(self) -> str | None:
        now_s = self._host.clock.now_s()
        if self._stream is None and not self._guard.allows(now_s):
            return None
        try:
            if self._stream is None:
                self._stream = self._host.stream(COMMAND)
            return self._stream.latest()
        except Unavailable as reason:
            self.close()
            self._guard.fail(reason, now_s)
            raise


def open_neuron(host: Host) -> NeuronCollector:
    """Open the collector; nothing is started yet.

    Raises:
        Unavailable: There is no Neuron device, or no `neuron-monitor`.
    """
    check_neuron_monitor(host)
    return NeuronCollector(host)
