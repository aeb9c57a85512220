"""How busy the host's CPUs were, and how many processes want them, from Linux's /proc."""

from __future__ import annotations

import re
from typing import NamedTuple

from mlflow_sysmetrics.sources import MOST, ParseError
from mlflow_sysmetrics.sources.proc_pid import CLOCK_TICKS

_CPU = re.compile(r"^cpu +((?:[0-9]{1,20} ){3,7}[0-9]{1,20})(?: [0-9 ]*)?$", re.MULTILINE)
_LOAD = re.compile(r"([0-9]{1,7}\.[0-9]{2}) ")
_MOST_TASKS = 1 << 22  # the most that Linux allows


class CpuTimes(NamedTuple):
    """Seconds since the machine started, summed over its CPUs."""

    busy: float
    total: float


def parse_cpu_times(text: str) -> CpuTimes:
    """Parse the first line of `/proc/stat`; waiting for a disk is not busy.

        cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0

    The numbers are user, nice, system, idle, iowait, irq, softirq, steal. The last two are of
    guests, which user and nice include.

    Raises:
        ParseError: There is no such line.
    """
    match = _CPU.search(text)
    if match is None:
        raise ParseError("/proc/stat", text)
    ticks = [int(digits) for digits in match[1].split(" ")]
    total, idle = sum(ticks), sum(ticks[3:5])
    if total >= MOST:
        raise ParseError("/proc/stat", text)
    return CpuTimes((total - idle) / CLOCK_TICKS, total / CLOCK_TICKS)


def parse_load(text: str) -> float:
    """Parse the load average of the last minute, the first number of `/proc/loadavg`.

        0.20 0.18 0.12 1/80 11206

    Raises:
        ParseError: It is otherwise, or more than Linux allows.
    """
    match = _LOAD.match(text)
    if match is None or float(match[1]) >= _MOST_TASKS:
        raise ParseError("/proc/loadavg", text)
    return float(match[1])
