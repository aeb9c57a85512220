"""CPU use of the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.subjects import SubjectsCollector
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cpu_times import CpuTimes, parse_cpu_times, parse_load
from mlflow_sysmetrics.sources.kernel_file import KernelFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host.host import Host

_MOST_SECONDS = 1e12  # a thousand CPUs over 30 years


def open_cpu(host: Host) -> SubjectsCollector:
    """Busy time of all CPUs together, in seconds, and the load average; on every host.

    Windows has no load average.
    """
    if host.system == "Linux":
        stat = KernelFile(f"{host.procfs}/stat")
        loadavg = KernelFile(f"{host.procfs}/loadavg")
        return SubjectsCollector(
            {
                "the CPUs' times": lambda: _times(stat.parsed(parse_cpu_times)),
                "the load average": lambda: _load(loadavg.parsed(parse_load)),
            },
            (stat, loadavg),
        )
    subjects: dict[str, Callable[[], dict[str, float]]] = {
        "the CPUs' times": lambda: _times(_psutil_times())
    }
    if hasattr(os, "getloadavg"):
        subjects["the load average"] = lambda: _load(os.getloadavg()[0])
    return SubjectsCollector(subjects)


def _times(times: CpuTimes) -> dict[str, float]:
    return {"cpu_busy_seconds": times.busy, "cpu_total_seconds": times.total}


def _load(load: float) -> dict[str, float]:
    return {"cpu/load_average_1m": load}


def _psutil_times() -> CpuTimes:
    times = psutil.cpu_times()
    if not all(0 <= each < _MOST_SECONDS for each in times):  # NaN is not, either
        raise ParseError("times of CPUs", str(times))
    total = sum(times)
    return CpuTimes(total - times.idle, total)
