"""Metrics of a Mac's GPUs, by what their drivers report to `ioreg`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.apple.ioreg import NEVER_ZERO, are_only_zeros, read_ioreg
from mlflow_sysmetrics.accelerators.totals import totals_of
from mlflow_sysmetrics.catalog import gpu_name

if TYPE_CHECKING:
    from mlflow_sysmetrics.accelerators.apple.ioreg import Statistics
    from mlflow_sysmetrics.host.host import Host

_GAUGES = (
    ("utilization_percentage", "Device Utilization %", 1.0),
    ("memory_usage_megabytes", "In use system memory", 1e-6),  # Apple's, in the host's memory
    ("memory_usage_megabytes", "vramUsedBytes", 1e-6),  # AMD's, in its own
    ("power_usage_watts", "Total Power(W)", 1.0),
    ("temperature_celsius", "Temperature(C)", 1.0),
    ("fan_speed_percentage", "Fan Speed(%)", 1.0),
    ("sm_clock_megahertz", "Core Clock(MHz)", 1.0),
    ("memory_clock_megahertz", "Memory Clock(MHz)", 1.0),
)
"""A reading's name after `gpu_<index>`, what it is called by ioreg, and the factor between."""


class AppleGpuCollector:
    """Readings of every GPU of a Mac: Apple's, or those of an Intel Mac."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> dict[str, float]:
        """Readings by name, of what each driver reports.

        Raises:
            Unavailable: `ioreg` failed, took too long, or showed nothing.
        """
        gpus = [gpu_readings(statistics) for statistics in read_ioreg(self._host)]
        readings = {
            gpu_name(index, name): value
            for index, gpu in enumerate(gpus)
            for name, value in gpu.items()
        }
        return readings | totals_of(gpus)

    def close(self) -> None:
        """Nothing is held."""


def open_apple(host: Host) -> AppleGpuCollector:
    """Open the collector.

    Raises:
        Unavailable: It is no Mac, or no graphics driver reports anything, as in virtual machines.
    """
    read_ioreg(host)
    return AppleGpuCollector(host)


def gpu_readings(statistics: Statistics) -> dict[str, float]:
    """The readings of one GPU, by their names after `gpu_<index>`."""
    if are_only_zeros(statistics):
        return {}
    readings = {
        name: statistics[told_as] * scale
        for name, told_as, scale in _GAUGES
        if told_as in statistics and (statistics[told_as] or told_as not in NEVER_ZERO)
    }
    used, free = statistics.get("vramUsedBytes"), statistics.get("vramFreeBytes")
    if used is not None and free is not None and used + free > 0:
        readings["memory_usage_percentage"] = 100 * used / (used + free)
    return readings
