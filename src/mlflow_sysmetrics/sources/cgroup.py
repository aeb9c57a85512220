"""What bounds a process below the host: CPU and memory limits of its control groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cgroup_paths import find_cgroup
from mlflow_sysmetrics.sources.meminfo import parse_meminfo_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflow_sysmetrics.host.host import Host

_Value = TypeVar("_Value")

_MOST_DIGITS = 20  # of 2^64
_HIGHEST_CPU = 1 << 16  # no kernel is built for more

_V1_UNLIMITED_BYTES = 1 << 62
"""Version 1 says "no limit" as 2^63 rounded down to a page; no real limit comes near."""


@dataclass(frozen=True)
class Limits:
    """What a process may use; None where nothing bounds it below the host.

    Attributes:
        cpus: The least of CPU quota, cpuset and affinity; may be a fraction.
        memory_bytes: Memory of the tightest group.
    """

    cpus: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Bound:
    """A limit and the group that has it.

    Attributes:
        value: The limit: CPUs or bytes.
        version: Cgroup version, 1 or 2.
        directory: The group's directory; where the limit is above all that are visible, the
            topmost of these.
        own_directory: The process's own group, that group or one below it.
    """

    value: float
    version: int
    directory: Path
    own_directory: Path


def read_limits(host: Host) -> Limits:
    """What bounds the process, from its cgroups and its affinity.

    Without cgroups, and on other systems than Linux, nothing does.

    Raises:
        Transient: That cannot be read now.
    """
    if host.system != "Linux":
        return Limits()
    cpu, memory = read_cpu_bound(host), read_memory_bound(host)
    counts = [cpu.value if cpu else None, _allowed_cpus(host)]
    cpus = min((float(count) for count in counts if count is not None), default=None)
    return Limits(
        cpus=_below(cpus, read_cpu_count(host)),
        memory_bytes=int(memory.value) if memory else None,
    )


def read_cpu_count(host: Host) -> int | None:
    """CPUs of the host, from `/sys/devices/system/cpu/online`; None where it is not known."""
    return _number(host, host.sysfs / "devices/system/cpu/online", count_cpus)


def read_cpu_bound(host: Host) -> Bound | None:
    """The tightest CPU quota among the process's group and its ancestors, in CPUs."""

    def cpus_of(version: int, directory: Path) -> float | None:
        if version == 1:
            quota_us = _number(host, directory / "cpu.cfs_quota_us", int)
            period_us = _number(host, directory / "cpu.cfs_period_us", int)
            return quota_cpus(quota_us, period_us)
        return _number(host, directory / "cpu.max", parse_cpu_max)

    return _tightest(host, "cpu", cpus_of, read_cpu_count(host))


def read_memory_bound(host: Host) -> Bound | None:
    """The tightest memory limit among the process's group and its ancestors, in bytes."""

    def bytes_of(version: int, directory: Path) -> int | None:
        if version == 2:  # noqa: PLR2004 - of cgroups
            return _number(host, directory / "memory.max", parse_bytes_limit)
        of_group = _number(host, directory / "memory.limit_in_bytes", parse_bytes_limit)
        of_all = _number(host, directory / "memory.stat", parse_hierarchical_limit)
        limits = [limit for limit in (of_group, of_all) if limit is not None]
        return min(limits, default=None)

    return _tightest(host, "memory", bytes_of, _total_memory_bytes(host))


def _tightest(
    host: Host,
    controller: str,
    limit_of: Callable[[int, Path], float | None],
    host_has: float | None,
) -> Bound | None:
    """The least limit among a group and its ancestors, if it is below what the host has."""
    try:
        cgroup = find_cgroup(host, controller)
    except Transient:
        raise
    except Unavailable:
        return None
    bounds = [
        Bound(limit, cgroup.version, directory, cgroup.directories[0])
        for directory in reversed(cgroup.directories)
        if (limit := limit_of(cgroup.version, directory))  # with 0 nothing could run
    ]
    # Of several with the same limit the topmost, for that is used by the most.
    tightest = min(bounds, key=lambda bound: bound.value, default=None)
    if tightest is None or _below(tightest.value, host_has) is None:
        return None
    return tightest


def _allowed_cpus(host: Host) -> int | None:
    """How many CPUs the cpuset and the affinity leave; None where neither can be read."""
    counts = [_number(host, path, count_cpus) for path in _cpuset_files(host)]
    cpuset = next((count for count in counts if count), None)
    affinity = _number(host, host.process_folder / "status", count_allowed_cpus)
    return min((count for count in (cpuset, affinity) if count), default=None)


def _cpuset_files(host: Host) -> Iterator[Path]:
    """Where a cpuset may be set; the nearest group that has one has its ancestors' heeded."""
    try:
        cgroup = find_cgroup(host, "cpuset")
    except Transient:
        raise
    except Unavailable:
        return
    effective = "cpuset.effective_cpus" if cgroup.version == 1 else "cpuset.cpus.effective"
    for directory in cgroup.directories:
        yield directory / effective
        yield directory / "cpuset.cpus"


def _total_memory_bytes(host: Host) -> int | None:
    """The host's memory, from `/proc/meminfo`; None where it is not reported."""
    return _number(
        host, host.procfs / "meminfo", lambda text: parse_meminfo_bytes(text, "MemTotal")
    )


def _below(limit: float | None, host_has: float | None) -> float | None:
    """A limit, unless the host has no more than it allows."""
    return None if limit is None or (host_has is not None and limit >= host_has) else limit


def _number(host: Host, path: Path, parse: Callable[[str], _Value]) -> _Value | None:
    """The content of a small file; None where it is absent or not what the parser knows."""
    try:
        return parse(host.read_text(path).strip())
    except Transient:
        raise
    except (Unavailable, ValueError):
        return None


def parse_bytes_limit(text: str) -> int | None:
    """Parse a memory limit: `536870912`; `max`, and what stands for it in version 1, is None.

    Raises:
        ParseError: The text is otherwise.
    """
    if text == "max":
        return None
    limit = _decimal(text, "a memory limit")
    return None if limit >= _V1_UNLIMITED_BYTES else limit


def parse_hierarchical_limit(text: str) -> int | None:
    """Parse `hierarchical_memory_limit 536870912` in version 1's `memory.stat`.

    It is the least limit of the group and all above it, also of those that a container cannot
    see; nothing else of a control group tells of these. None where nothing limits.

    Raises:
        ParseError: The number is otherwise.
    """
    for line in text.splitlines():
        name, _, limit = line.partition(" ")
        if name == "hierarchical_memory_limit":
            return parse_bytes_limit(limit)
    return None


def parse_cpu_max(text: str) -> float | None:
    """Parse `cpu.max`: quota and period in microseconds, `150000 100000`; `max 100000` is None.

    Raises:
        ParseError: The text is otherwise.
    """
    quota, _, period = text.partition(" ")
    period_us = _decimal(period, "cpu.max")
    return None if quota == "max" else quota_cpus(_decimal(quota, "cpu.max"), period_us)


def quota_cpus(quota_us: int | None, period_us: int | None) -> float | None:
    """CPUs that a quota allows; None without one, which version 1 says as -1."""
    if quota_us is None or period_us is None or quota_us <= 0 or period_us <= 0:
        return None
    return quota_us / period_us


def count_cpus(text: str) -> int:
    """Count the CPUs of a list such as `0-3,8`; an empty list has none.

    Raises:
        ParseError: The text is otherwise.
    """
    count = 0
    for part in filter(None, text.strip().split(",")):
        first, dash, last = part.partition("-")
        low = _decimal(first, "a CPU list")
        high = _decimal(last, "a CPU list") if dash else low
        if high < low or high > _HIGHEST_CPU:
            raise ParseError("a CPU list", text)
        count += high - low + 1
    return count


def count_allowed_cpus(text: str) -> int:
    r"""Count the CPUs of the affinity in `/proc/<pid>/status`: `Cpus_allowed_list:\t0-3,8`.

    Raises:
        ParseError: There is no such line.
    """
    for line in text.splitlines():
        name, _, cpus = line.partition(":")
        if name == "Cpus_allowed_list":
            return count_cpus(cpus)
    raise ParseError("/proc/<pid>/status", text)


def _decimal(text: str, what: str) -> int:
    """A whole number, in plain digits only, no longer than the kernel ever prints."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise ParseError(what, text)
    return int(text)
