"""CPU time of a control group that holds a process tree and nobody else.

Nothing escapes its counter: also not what a child used whom nobody waited for, as where SIGCHLD is
ignored, nor an orphan that came and went between two looks.
"""

# A Path costs as much as the read itself, at every tick.
# ruff: noqa: PTH115, PTH116

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cgroup_paths import find_cgroup
from mlflow_sysmetrics.sources.cgroup_use import parse_keyed, parse_single
from mlflow_sysmetrics.sources.kernel_file import (
    read_kernel_file,
    read_kernel_text,
    read_long_kernel_file,
)
from mlflow_sysmetrics.sources.proc_clock import has_cpu_clocks, process_clock_ns
from mlflow_sysmetrics.sources.proc_pid import UNREADABLE, parse_stat

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflow_sysmetrics.host.host import Host

_MOST_OTHERS = 8
"""With more processes beside the tree the group is another's."""

_FOLDERS_WITHOUT_GROUPS = 2
"""Link count of a group's directory that has no groups below it."""


_HOSTS_PID_NAMESPACE = "pid:[4026531836]"
"""The namespace in which a machine starts: Linux gives it this number always."""


class OwnCgroup:
    """The group that accounts for the CPU time of a tree, and perhaps of others.

    Processes that sleep may be in it: a shell that waits, a container's init.

    Args:
        host: The machine.

    Raises:
        Unavailable: There is none, or it does not show who is in it, or clocks do not show who
            sleeps.
    """

    def __init__(self, host: Host) -> None:
        if not has_cpu_clocks(host):
            raise Unavailable("the CPU clocks of processes cannot be read")
        group = find_cgroup(host, "cpuacct")
        if group.version == 1 and not _sees_all_processes(host):
            raise Unavailable("a group of version 1 does not show processes outside the container")
        self._proc = os.fspath(host.procfs)
        self._folder = os.fspath(group.directories[0])
        self._is_unified = group.version != 1
        self._is_others = False
        self._before: tuple[float, dict[int, int]] | None = None
        self._now: tuple[float, list[int]] | None = None

    def read(self) -> None:
        """Read the counter, and who is in the group.

        To be called before the tree is looked at: then that finds all that the tree has here.
        """
        self._now = None
        if self._is_others:
            return
        try:
            has_groups_below = os.stat(self._folder).st_nlink > _FOLDERS_WITHOUT_GROUPS
            pids = read_long_kernel_file(f"{self._folder}/cgroup.procs").split()
            if not has_groups_below:
                self._now = self._read_cpu_s(), [int(pid) for pid in pids]
        except (OSError, ValueError, KeyError, Unavailable):
            return

    def used_s(self, members: Collection[int]) -> float | None:
        """CPU time that only the tree can have used, between this call of `read` and the last.

        Args:
            members: The tree.

        Returns:
            None where others were there, and awake, or it cannot be read.
        """
        before, now = self._before, self._now
        self._before = None
        if now is None:
            return None
        cpu_s, pids = now
        others = [pid for pid in pids if pid not in members]
        # Version 2 shows a process outside of this container as 0.
        if len(others) > _MOST_OTHERS or 0 in others:
            self._is_others = True
            return None
        clocks = {
            pid: clock_ns
            for pid in others
            if (clock_ns := process_clock_ns(pid)) is not None and not self._is_child(pid, members)
        }
        self._before = cpu_s, clocks
        if before is None or any(before[1].get(pid) != clocks[pid] for pid in clocks):
            return None
        return max(0.0, cpu_s - before[0])

    def _read_cpu_s(self) -> float:
        if self._is_unified:
            return parse_keyed(read_kernel_text(f"{self._folder}/cpu.stat"))["usage_usec"] / 1e6
        return parse_single(read_kernel_text(f"{self._folder}/cpuacct.usage")) / 1e9

    def _is_child(self, pid: int, members: Collection[int]) -> bool:
        """Whether it belongs to the tree, which will have found it by the next time."""
        try:
            stat = parse_stat(read_kernel_file(f"{self._proc}/{pid}/stat"))
        except (*UNREADABLE, ParseError):
            return True  # it has ended
        return stat.parent_pid in members


def _sees_all_processes(host: Host) -> bool:
    try:
        return os.readlink(host.procfs / "self/ns/pid") == _HOSTS_PID_NAMESPACE
    except OSError:
        return False
