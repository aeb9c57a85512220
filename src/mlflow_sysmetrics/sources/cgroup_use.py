"""What a cgroup with a limit uses of it, and how often the limit struck."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import MOST, ParseError
from mlflow_sysmetrics.sources.fields import find_number
from mlflow_sysmetrics.sources.kernel_file import KernelFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.sources.cgroup import Bound

_Value = TypeVar("_Value")

_NUMBER = re.compile(r"([0-9]{1,20})\n?")


class CgroupUse:
    """Reads what the group with a limit uses; its files stay open.

    Args:
        bound: The limit, and who has it.
    """

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._files: dict[str, KernelFile] = {}

    def memory_bytes(self) -> int:
        """Bytes charged to the group, less the page cache that it would give back first.

        That is what `docker stats` and Kubernetes' working set show; page cache in active use
        counts.

        Raises:
            Unavailable: The group's files cannot be read.
        """
        is_v1 = self._bound.version == 1
        charged_bytes = self._parsed(
            "memory.usage_in_bytes" if is_v1 else "memory.current", parse_single
        )
        inactive = "total_inactive_file" if is_v1 else "inactive_file"
        return max(0, charged_bytes - self._field("memory.stat", inactive))

    def oom_kills(self) -> int:
        """Processes that the kernel killed in the group for want of memory.

        Version 1 counts in the group of the process that it kills, and not in those above,
        whichever has the limit: those in the process's own group are told.

        Raises:
            Unavailable: The kernel does not count them (before Linux 4.13).
        """
        if self._bound.version == 1:
            return self._field(f"{self._bound.own_directory}/memory.oom_control", "oom_kill")
        return self._field("memory.events", "oom_kill")

    def throttling(self) -> tuple[int, int, float]:
        """Scheduling periods, those in which the quota was used up, and seconds held back by it.

        The seconds are summed over the CPUs that had something to run meanwhile.

        Raises:
            Unavailable: The group's file cannot be read.
        """
        is_v1 = self._bound.version == 1
        held_back, scale = ("throttled_time", 1e-9) if is_v1 else ("throttled_usec", 1e-6)
        periods = self._field("cpu.stat", "nr_periods")
        throttled = self._field("cpu.stat", "nr_throttled")
        return periods, throttled, self._field("cpu.stat", held_back) * scale

    def close(self) -> None:
        """Close the files; may be called twice."""
        for file in self._files.values():
            file.close()

    def _field(self, name: str, key: str) -> int:
        number = self._parsed(name, lambda text: find_number(text, key))
        if number is None:
            raise Unavailable(f"{self._files[name].path} does not report {key}")
        return number

    def _parsed(self, name: str, parse: Callable[[str], _Value]) -> _Value:
        if name not in self._files:
            self._files[name] = KernelFile(f"{self._bound.directory / name}")
        return self._files[name].parsed(parse)


def parse_single(text: str) -> int:
    """Parse a file that holds one number: `536870912`.

    Raises:
        ParseError: It is otherwise.
    """
    match = _NUMBER.fullmatch(text)
    if match is None or int(match[1]) >= MOST:
        raise ParseError("a number", text)
    return int(match[1])
