"""A Mac's GPUs, Apple's or those of an Intel Mac: `system_profiler` lists, `ioreg` reports.

Neither needs privileges.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.apple.system_profiler import read_system_profiler
from mlflow_sysmetrics.accelerators.contract import Found, Vendor
from mlflow_sysmetrics.accelerators.reasons import check_silent
from mlflow_sysmetrics.accelerators.totals import named_readings, totals_of
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

COMMAND = ("ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")

_ENTRY = re.compile(r"^\+-o ", re.MULTILINE)
_STATISTICS = re.compile(r'^ *"PerformanceStatistics" = \{(.*)\}$', re.MULTILINE)
_STATISTIC = re.compile(r'"([^"]+)"=(\d{1,20})(?=[,}]|$)', re.ASCII)

_LARGEST = 1 << 63  # above it, a negative number was printed as if it had no sign

Statistics = dict[str, int]
"""What one driver reports, under its own names."""


def parse_ioreg(text: str) -> tuple[Statistics, ...]:
    """The performance statistics of each entry that has some.

        +-o AGXAcceleratorG13X  <class AGXAcceleratorG13X, id 0x100000a90, …>
            {
              "PerformanceStatistics" = {"In use system memory (driver)"=0,"Device Utilization %"=25,"In use system memory"=745570304}
              "model" = "Apple M1 Max"
            }

    Raises:
        ParseError: None has.
    """  # noqa: E501 - a line as it is printed
    gpus = []
    for entry in _ENTRY.split(text)[1:]:
        statistics = _STATISTICS.search(entry)
        numbers = {
            name: int(number)
            for name, number in _STATISTIC.findall(statistics[1] if statistics else "")
        }
        if numbers:
            gpus.append({name: value for name, value in numbers.items() if value < _LARGEST})
    if not gpus:
        raise ParseError("a list of graphics drivers by ioreg", text)
    return tuple(gpus)


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
"""A reading's name after `gpu_<index>`, its name in ioreg, and the factor between."""

_NEVER_ZERO = ("In use system memory", "Temperature(C)", "Core Clock(MHz)")
"""What no GPU that is switched on reports as 0."""

_MAY_BE_ZERO = ("Device Utilization %", "vramUsedBytes", "Total Power(W)", "Fan Speed(%)")


class AppleGpuCollector:
    """Readings of every GPU of a Mac."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> dict[str, float]:
        """Readings by name, of what each driver reports.

        Raises:
            Unavailable: `ioreg` failed, took too long, or showed nothing.
        """
        gpus = [gpu_readings(statistics) for statistics in _read_ioreg(self._host)]
        return named_readings(dict(enumerate(gpus))) | totals_of(gpus)

    def close(self) -> None:
        """Nothing is held."""


def open_apple(host: Host) -> AppleGpuCollector:
    """Open the collector.

    Raises:
        Unavailable: It is no Mac, or no graphics driver reports anything, as in virtual machines.
    """
    _read_ioreg(host)
    return AppleGpuCollector(host)


def probe(host: Host) -> Found:
    """The GPUs of a Mac, and those that report nothing.

    Raises:
        Absent: It is no Mac.
    """
    if host.system != "Darwin":
        raise Absent("not a Mac")
    silence: Unavailable | None = None
    notes: tuple[str, ...] = ()
    try:
        gpus = dict(enumerate(map(_why_silent, _read_ioreg(host))))
        notes = check_silent(gpus, len(gpus))
    except Unavailable as reason:
        silence = reason
    try:
        return Found(read_system_profiler(host), silence, notes)
    except (Unavailable, ParseError) as failure:
        return Found(None, silence, notes, list_failure=str(failure))


def gpu_readings(statistics: Statistics) -> dict[str, float]:
    """The readings of one GPU, by their names after `gpu_<index>`."""
    if _are_only_zeros(statistics):
        return {}
    readings = {
        name: statistics[statistic] * scale
        for name, statistic, scale in _GAUGES
        if statistic in statistics and (statistics[statistic] or statistic not in _NEVER_ZERO)
    }
    used, free = statistics.get("vramUsedBytes"), statistics.get("vramFreeBytes")
    if used is not None and free is not None and used + free > 0:
        readings["memory_usage_percentage"] = 100 * used / (used + free)
    return readings


def _read_ioreg(host: Host) -> tuple[Statistics, ...]:
    if host.system != "Darwin":
        raise Absent("not a Mac")
    printed = host.run(COMMAND)
    if not printed.strip():  # as in a virtual machine without a GPU
        raise Absent("no GPU: no graphics driver reports anything")
    try:
        return parse_ioreg(printed)
    except ParseError as error:
        raise Unavailable(f"no graphics driver reports what it does: {error}") from error


def _are_only_zeros(statistics: Statistics) -> bool:
    """Whether a driver reports nothing but 0, as for a GPU that is off, or in a virtual machine."""
    has_impossible = any(statistics.get(name) == 0 for name in _NEVER_ZERO)
    return has_impossible and not any(map(statistics.get, (*_NEVER_ZERO, *_MAY_BE_ZERO)))


def _why_silent(statistics: Statistics) -> str | None:
    if _are_only_zeros(statistics):
        return "reports nothing but 0, as while it is off"
    if not any(name in statistics for name in (*_NEVER_ZERO, *_MAY_BE_ZERO)):
        return "reports nothing (its driver has no figures for ioreg)"
    return None


APPLE = Vendor("apple", "ioreg", may_block=True, probe=probe, open=open_apple)
