"""How near a container is to the limits of its cgroup, and how often they struck."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.collectors.subjects import SubjectsCollector
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources.cgroup import read_cpu_bound, read_memory_bound
from mlflow_sysmetrics.sources.cgroup_use import CgroupUse

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host.host import Host


def open_container(host: Host) -> SubjectsCollector:
    """Memory and CPU against the limit, each in the group that has the tightest one.

    Megabytes and a percentage, and counters of kills and periods.

    Raises:
        Unavailable: No group limits the process.
    """
    if host.system != "Linux":
        raise Unavailable("cgroups exist on Linux only")
    memory, cpu = read_memory_bound(host), read_cpu_bound(host)
    subjects: dict[str, Callable[[], dict[str, float]]] = {}
    groups = []
    if memory is not None:
        group, limit_bytes = CgroupUse(memory), memory.value
        subjects["the container's memory"] = lambda: _memory(group, limit_bytes)
        subjects["the container's OOM kills"] = lambda: {"container/oom_kills": group.oom_kills()}
        groups.append(group)
    if cpu is not None:
        cpu_group = CgroupUse(cpu)
        subjects["the container's CPU throttling"] = lambda: _throttling(cpu_group)
        groups.append(cpu_group)
    if not subjects:
        raise Unavailable("no cgroup limits the memory or the CPUs below the host's")
    return SubjectsCollector(subjects, groups)


def _memory(group: CgroupUse, limit_bytes: float) -> dict[str, float]:
    used_bytes = group.memory_bytes()
    return {
        "container/memory_usage_megabytes": used_bytes / 1e6,
        "container/memory_usage_percentage": 100 * used_bytes / limit_bytes,
    }


def _throttling(group: CgroupUse) -> dict[str, float]:
    periods, throttled, held_back_s = group.throttling()
    return {
        "container/cpu_periods": periods,
        "container/cpu_throttled_periods": throttled,
        "container/cpu_throttled_seconds": held_back_s,
    }
