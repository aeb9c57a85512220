"""What a cgroup with a limit uses of it, and how often the limit struck."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import MOST, ParseError
from mlflow_sysmetrics.sources.kernel_file import read_kernel_text

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_sysmetrics.sources.cgroup import Bound


_NUMBER = re.compile(r"([0-9]{1,20})\n?")
_KEYED = re.compile(r"^([\w.]+) ([0-9]{1,20})$", re.MULTILINE | re.ASCII)


def read_memory_use(bound: Bound) -> int:
    """Bytes charged to the group, less the page cache that it would give back first.

    That is what `docker stats` and Kubernetes' working set show; page cache in active use counts.

    Raises:
        Unavailable: The group's files cannot be read.
    """
    if bound.version == 1:
        usage, inactive = "memory.usage_in_bytes", "total_inactive_file"
    else:
        usage, inactive = "memory.current", "inactive_file"
    charged_bytes = parse_single(read_kernel_text(f"{bound.directory}/{usage}"))
    return max(0, charged_bytes - _read_fields(bound.directory, "memory.stat", inactive)[0])


def read_oom_kills(bound: Bound) -> int:
    """Processes that the kernel killed in the group for want of memory.

    Version 1 counts in the group of the process that it kills, and not in those above, whichever
    has the limit: those in the process's own group are told.

    Raises:
        Unavailable: The kernel does not count them (before Linux 4.13).
    """
    if bound.version == 1:
        return _read_fields(bound.own_directory, "memory.oom_control", "oom_kill")[0]
    return _read_fields(bound.directory, "memory.events", "oom_kill")[0]


def read_throttling(bound: Bound) -> tuple[int, int, float]:
    """Scheduling periods, those in which the quota was used up, and seconds held back by it.

    The seconds are summed over the CPUs that had something to run meanwhile.

    Raises:
        Unavailable: The group's file cannot be read.
    """
    held_back, scale = ("throttled_time", 1e-9) if bound.version == 1 else ("throttled_usec", 1e-6)
    periods, throttled, time = _read_fields(
        bound.directory, "cpu.stat", "nr_periods", "nr_throttled", held_back
    )
    return periods, throttled, time * scale


def parse_single(text: str) -> int:
    """Parse a file that holds one number: `536870912`.

    Raises:
        ParseError: It is otherwise.
    """
    match = _NUMBER.fullmatch(text)
    if match is None or int(match[1]) >= MOST:
        raise ParseError("a number", text)
    return int(match[1])


def parse_keyed(text: str) -> dict[str, int]:
    """Parse a file of names and numbers.

        inactive_file 8192
        nr_throttled 12

    Raises:
        ParseError: No line looks so.
    """
    fields: dict[str, int] = {}
    for name, number in _KEYED.findall(text):
        if int(number) < MOST:
            fields.setdefault(name, int(number))
    if not fields:
        raise ParseError("a file of names and numbers", text)
    return fields


def _read_fields(directory: Path, file: str, *names: str) -> list[int]:
    path = f"{directory}/{file}"
    fields = parse_keyed(read_kernel_text(path))
    try:
        return [fields[name] for name in names]
    except KeyError as error:
        raise Unavailable(f"{path} does not report {error}") from error
