"""The processes of /proc that were not there before."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.kernel_file import read_kernel_file
from mlflow_sysmetrics.sources.proc_pid import UNREADABLE, parse_stat

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflow_sysmetrics.sources.proc_pid import Stat


class Listing:
    """Lists processes, each of them once.

    A directory's inode number shows whether it is still the process it was, and comes with the
    listing, so nothing is read of a process that was seen before.

    Args:
        proc: Where the proc file system is.
    """

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._seen: dict[str, int] = {}

    def pids(self) -> set[int]:
        """All that were there at the last look."""
        return {int(name) for name in self._seen if name.isdecimal()}

    def has(self, pid: int) -> bool:
        """Whether a process was there at the last look."""
        return str(pid) in self._seen

    def forget(self, pid: int) -> None:
        """The next look shows this process, or another with its pid, as new."""
        self._seen.pop(str(pid), None)

    def forget_all(self) -> None:
        """The next look shows every process as new."""
        self._seen.clear()

    def new(self, members: Collection[int]) -> dict[int, Stat]:
        """The processes that are seen for the first time, without these."""
        listing: dict[str, int] = {}
        new: dict[int, Stat] = {}
        seen = self._seen
        with os.scandir(self._proc) as entries:
            for entry in entries:
                name = entry.name
                listing[name] = inode = entry.inode()
                if seen.get(name) != inode and name.isdecimal() and int(name) not in members:
                    with suppress(*UNREADABLE, ParseError):
                        new[int(name)] = parse_stat(read_kernel_file(f"{self._proc}/{name}/stat"))
        self._seen = listing
        return new
