"""Pressure stall information (PSI): for how long tasks waited for want of a resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import MOST, ParseError
from mlflow_sysmetrics.sources.cgroup_paths import UNIFIED, find_cgroup

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_RESOURCES = ("cpu", "memory", "io")

_KINDS = ("some", "full")
_MOST_DIGITS = 20


def host_pressure_files(host: Host) -> dict[str, str]:
    """Where the pressure on the whole host is read, by resource."""
    return {name: f"{host.procfs}/pressure/{name}" for name in _RESOURCES}


def cgroup_pressure_files(host: Host) -> dict[str, str]:
    """Where the pressure in the process's own group is read, by resource.

    Raises:
        Unavailable: It is in no group of version 2, or in the topmost, which is the whole host.
    """
    directory = find_cgroup(host, UNIFIED).directories[0]
    if not (directory / "cgroup.type").exists():  # the one file that only the topmost lacks
        raise Unavailable("the process is in no cgroup of its own")
    return {name: f"{directory}/{name}.pressure" for name in _RESOURCES}


def parse_pressure(text: str) -> dict[str, int]:
    """Parse one file of PSI: microseconds in which `some` or `full`, all, tasks were stalled.

        some avg10=0.24 avg60=0.39 avg300=0.16 total=7655097
        full avg10=0.00 avg60=0.00 avg300=0.00 total=0

    Raises:
        ParseError: There is neither line.
    """
    stalled_us: dict[str, int] = {}
    for line in text.splitlines():
        kind = line[:4]
        total = line.rpartition(" total=")[2]
        is_number = total.isascii() and total.isdecimal() and len(total) <= _MOST_DIGITS
        if kind in _KINDS and is_number and int(total) < MOST:
            stalled_us.setdefault(kind, int(total))
    if not stalled_us:
        raise ParseError("pressure stall information", text)
    return stalled_us
