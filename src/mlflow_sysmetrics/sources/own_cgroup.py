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
from mlflow_sysmetrics.sources.cgroup_use import parse_single
from mlflow_sysmetrics.sources.fields import find_number
from mlflow_sysmetrics.sources.kernel_file import KernelFile, read_kernel_file
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
        self._procs = KernelFile(f"{self._folder}/cgroup.procs", is_long=True)
        is_unified = group.version != 1
        self._counter = KernelFile(
            f"{self._folder}/{'cpu.stat' if is_unified else 'cpuacct.usage'}"
        )
        self._parse_s = parse_cpu_stat if is_unified else parse_cpuacct_usage
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
            if not has_groups_below:
                pids = [int(pid) for pid in self._procs.read().split()]
                self._now = self._counter.parsed(self._parse_s), pids
        except (OSError, ValueError, Unavailable):
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
            self.close()
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

    def close(self) -> None:
        """Close its files; may be called twice."""
        self._procs.close()
        self._counter.close()

    def _is_child(self, pid: int, members: Collection[int]) -> bool:
        """Whether it belongs to the tree, which will have found it by the next time."""
        try:
            stat = parse_stat(read_kernel_file(f"{self._proc}/{pid}/stat"))
        except (*UNREADABLE, ParseError):
            return True  # it has ended
        return stat.parent_pid in members


def parse_cpu_stat(text: str) -> float:
    """Parse version 2's `cpu.stat`, in microseconds: CPU time in seconds.

        usage_usec 532218

    Raises:
        ParseError: There is no such line.
    """
    usage_us = find_number(text, "usage_usec")
    if usage_us is None:
        raise ParseError("cpu.stat", text)
    return usage_us / 1e6


def parse_cpuacct_usage(text: str) -> float:
    """Parse version 1's `cpuacct.usage`, in nanoseconds: CPU time in seconds.

    Raises:
        ParseError: It is no number.
    """
    return parse_single(text) / 1e9


def _sees_all_processes(host: Host) -> bool:
    try:
        return os.readlink(host.procfs / "self/ns/pid") == _HOSTS_PID_NAMESPACE
    except OSError:
        return False
