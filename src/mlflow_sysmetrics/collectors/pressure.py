"""For how long tasks were stalled for want of CPU, memory or I/O, on the host and in the cgroup."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.sources.pressure import (
    cgroup_pressure_files,
    host_pressure_files,
    read_pressure,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.host.host import Host

_KINDS = {
    "cpu": ("some",),  # `full` means nothing for the CPUs of a host
    "memory": ("some", "full"),
    "io": ("some", "full"),
}


class PressureCollector(Collector):
    """Counters of stalled time.

    Args:
        files: Where the pressure on a resource is read, by resource, by the beginning of the
            readings' names.
    """

    def __init__(self, files: Mapping[str, Mapping[str, str]]) -> None:
        self._files = files
        self._subjects = Subjects()

    def collect(self) -> dict[str, float]:
        """Counters in microseconds."""
        readings: dict[str, float] = {}
        for prefix, paths in self._files.items():
            for resource, path in paths.items():
                read = partial(_stalls, prefix, resource, path)
                readings |= self._subjects.read(path, read)
        return readings

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        return self._subjects.notes()


def _stalls(prefix: str, resource: str, path: str) -> dict[str, float]:
    stalled_us = read_pressure(path)
    return {
        f"{prefix}{resource}_{kind}_stalled_microseconds": stalled_us[kind]
        for kind in _KINDS[resource]
        if kind in stalled_us
    }


def open_pressure(host: Host) -> PressureCollector:
    """Open the pressure on the host and on the process's cgroup, where they are reported.

    Raises:
        Unavailable: Neither is: not Linux, or a kernel that keeps none.
    """
    files = {"pressure/": _readable(host_pressure_files(host))}
    try:
        files["container/pressure_"] = _readable(cgroup_pressure_files(host))
    except Transient:
        raise
    except Unavailable as reason:
        logger.debug("no pressure of a cgroup: %s", reason)
    if not any(files.values()):
        raise Unavailable("the kernel reports no pressure (PSI)")
    return PressureCollector(files)


def _readable(files: Mapping[str, str]) -> dict[str, str]:
    """Those that the kernel has, also where they cannot be read now."""
    readable = {}
    for resource, path in files.items():
        try:
            read_pressure(path)
        except Transient:
            pass
        except Unavailable as reason:
            logger.debug("no pressure: %s", reason)
            continue
        readable[resource] = path
    return readable
