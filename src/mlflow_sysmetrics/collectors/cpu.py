"""CPU use of the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host


_MOST_SECONDS = 1e12  # a thousand CPUs over 30 years
_MOST_TASKS = 1 << 22  # the most that Linux allows


class CpuCollector(Collector):
    """Busy time of all CPUs together, and the load average."""

    def __init__(self) -> None:
        self._subjects = Subjects()

    def collect(self) -> dict[str, float]:
        """Counters in seconds summed over the CPUs, and processes for the load."""
        readings = self._subjects.read("the CPUs' times", _times)
        if hasattr(os, "getloadavg"):
            readings |= self._subjects.read("the load average", _load)
        return readings

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        return self._subjects.notes()


def _times() -> dict[str, float]:
    times = psutil.cpu_times()
    if not all(0 <= each < _MOST_SECONDS for each in times):  # NaN is not, either
        raise ParseError("times of CPUs", str(times))
    # On Linux the kernel counts guest time within user and nice: once is enough.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return {
        "cpu_busy_seconds": total - times.idle - getattr(times, "iowait", 0.0),
        "cpu_total_seconds": total,
    }


def _load() -> dict[str, float]:
    load = os.getloadavg()[0]
    if not 0 <= load < _MOST_TASKS:
        raise ParseError("a load average", str(load))
    return {"cpu/load_average_1m": load}


def open_cpu(_host: Host) -> CpuCollector:
    """CPU counters exist on every host."""
    return CpuCollector()
