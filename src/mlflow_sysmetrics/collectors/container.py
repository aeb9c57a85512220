"""How near a container is to the limits of its cgroup, and how often they struck."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources.cgroup import read_cpu_bound, read_memory_bound
from mlflow_sysmetrics.sources.cgroup_use import read_memory_use, read_oom_kills, read_throttling

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host
    from mlflow_sysmetrics.sources.cgroup import Bound


class ContainerCollector(Collector):
    """Memory and CPU against the limit, each in the group that has the tightest one.

    Args:
        memory: The group that limits the memory; None without one.
        cpu: The group that limits the CPUs by a quota; None without one.
    """

    def __init__(self, memory: Bound | None, cpu: Bound | None) -> None:
        self._memory = memory
        self._cpu = cpu
        self._subjects = Subjects()

    def collect(self) -> dict[str, float]:
        """Megabytes and a percentage, and counters of kills and periods."""
        readings: dict[str, float] = {}
        for subject, bound, read in (
            ("the container's memory", self._memory, _memory_readings),
            ("the container's OOM kills", self._memory, _oom_readings),
            ("the container's CPU throttling", self._cpu, _cpu_readings),
        ):
            if bound is not None:
                readings |= self._subjects.read(subject, partial(read, bound))
        return readings

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        return self._subjects.notes()


def open_container(host: Host) -> ContainerCollector:
    """Open the groups that limit the process.

    Raises:
        Unavailable: None does.
    """
    if host.system != "Linux":
        raise Unavailable("cgroups exist on Linux only")
    memory, cpu = read_memory_bound(host), read_cpu_bound(host)
    if memory is None and cpu is None:
        raise Unavailable("no cgroup limits the memory or the CPUs below the host's")
    return ContainerCollector(memory, cpu)


def _memory_readings(bound: Bound) -> dict[str, float]:
    used_bytes = read_memory_use(bound)
    return {
        "container/memory_usage_megabytes": used_bytes / 1e6,
        "container/memory_usage_percentage": 100 * used_bytes / bound.value,
    }


def _oom_readings(bound: Bound) -> dict[str, float]:
    return {"container/oom_kills": read_oom_kills(bound)}


def _cpu_readings(bound: Bound) -> dict[str, float]:
    periods, throttled, held_back_s = read_throttling(bound)
    return {
        "container/cpu_periods": periods,
        "container/cpu_throttled_periods": throttled,
        "container/cpu_throttled_seconds": held_back_s,
    }
