"""For how long tasks were stalled for want of CPU, memory or I/O, on the host and in the cgroup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.collectors.subjects import SubjectsCollector
from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.kernel_file import KernelFile
from mlflow_sysmetrics.sources.pressure import (
    cgroup_pressure_files,
    host_pressure_files,
    parse_pressure,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_sysmetrics.host.host import Host

_KINDS = {
    "cpu": ("some",),  # `full` means nothing for the CPUs of a host
    "memory": ("some", "full"),
    "io": ("some", "full"),
}


def open_pressure(host: Host) -> SubjectsCollector:
    """Stalled time on the host and in the process's cgroup, in microseconds, where reported.

    Raises:
        Unavailable: Neither is: not Linux, or a kernel that keeps none.
    """
    subjects: dict[str, Callable[[], dict[str, float]]] = {}
    files = []
    for prefix, resource, path in _paths(host):
        file = KernelFile(path)
        if _is_there(file):
            subjects[path] = _reader(prefix, resource, file)
            files.append(file)
    if not subjects:
        raise Unavailable("the kernel reports no pressure (PSI)")
    return SubjectsCollector(subjects, files)


def _paths(host: Host) -> Iterator[tuple[str, str, str]]:
    """What the readings of a file begin with, the resource, and the file."""
    for resource, path in host_pressure_files(host).items():
        yield "pressure/", resource, path
    try:
        for resource, path in cgroup_pressure_files(host).items():
            yield "container/pressure_", resource, path
    except Transient:
        raise
    except Unavailable as reason:
        logger.debug("no pressure of a cgroup: %s", reason)


def _is_there(file: KernelFile) -> bool:
    """Whether the kernel has it, also where it cannot be read now."""
    try:
        file.parsed(parse_pressure)
    except (Transient, ParseError):
        return True
    except Unavailable as reason:
        logger.debug("no pressure: %s", reason)
        return False
    return True


def _reader(prefix: str, resource: str, file: KernelFile) -> Callable[[], dict[str, float]]:
    keys = {kind: f"{prefix}{resource}_{kind}_stalled_microseconds" for kind in _KINDS[resource]}

    def read() -> dict[str, float]:
        stalled_us = file.parsed(parse_pressure)
        return {key: stalled_us[kind] for kind, key in keys.items() if kind in stalled_us}

    return read
