"""Which processes have joined a tree since the last look, from /proc.

The kernel lists a process's children only where it was built so (`CONFIG_PROC_CHILDREN`), and
then in one file for each thread. So there are two ways, and the cheaper is taken: ask each thread
of the tree, or list all processes and read the parents of those never seen before. Only those
need be asked that have run since the last look: nobody else can have got a child, unless another
process of the tree has ended. And there is no need for either way while the last pid that was
given out is still the same.
"""

# A Path costs as much as the read itself, at every tick.
# ruff: noqa: PTH110, PTH116, PTH208

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.sources.kernel_file import read_kernel_file, read_long_kernel_file
from mlflow_sysmetrics.sources.proc_clock import shares_pids
from mlflow_sysmetrics.sources.proc_listing import Listing
from mlflow_sysmetrics.sources.proc_pid import UNREADABLE
from mlflow_sysmetrics.sources.proc_strays import Strays

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from mlflow_sysmetrics.host.host import Host

_PID = re.compile(rb"[0-9]{1,10}")

_FULL_LOOKS_APART = 8
"""Ask all after so many ticks anyhow: a list of children may miss one as another exits."""

_THREAD_COST = 10
"""Asking one thread for its children costs as much as listing so many processes."""


class ProcessDiscovery:
    """Finds the processes that join a tree.

    Args:
        host: The machine.
        root_pid: Root of the tree.
    """

    def __init__(self, host: Host, root_pid: int) -> None:
        self._proc = os.fspath(host.procfs)
        self._tells_children = os.path.exists(f"{self._proc}/{root_pid}/task/{root_pid}/children")
        self._tells_last_pid = _tells_last_pid(host)
        self._last_pid: bytes | None = None
        self._last_pid_looked_at: bytes | None = None
        self._somebody_ended = False
        self._ticks_since_full_look = _FULL_LOOKS_APART
        self._listing = Listing(self._proc)
        self._strays = Strays(host, root_pid)

    def prepare(self) -> None:
        """To be called before it is looked who is awake: what is born later shows next time."""
        self._last_pid = self._read_last_pid() if self._tells_last_pid else None

    def find(self, threads: Mapping[int, int], awake: Collection[int]) -> list[int]:
        """The processes that are in the tree and not among its known members, parents first.

        Args:
            threads: How many threads each of the known members has.
            awake: The members that may have run since the last call.
        """
        self._ticks_since_full_look += 1
        is_full = self._somebody_ended or self._ticks_since_full_look >= _FULL_LOOKS_APART
        if not is_full and self._last_pid and self._last_pid == self._last_pid_looked_at:
            return []
        if is_full:
            self._somebody_ended = False
            self._ticks_since_full_look = 0
        self._last_pid_looked_at = self._last_pid
        asked = threads.keys() if is_full else awake
        cost = sum(threads[pid] for pid in asked) * _THREAD_COST
        if self._tells_children and cost < self._processes_on_host():
            newcomers = self._by_children(threads, asked)
        else:
            newcomers = self._by_listing(threads)
        return newcomers + self._find_strays({*threads, *newcomers})

    def forget(self, pid: int) -> None:
        """A member has ended: its pid may be another's, its children have another parent."""
        self._listing.forget(pid)
        self._somebody_ended = True

    def join(self, pid: int) -> None:
        """A process has been added that may have been seen, with its children, as a stranger."""
        self.forget(pid)
        self._listing.forget_all()

    def _read_last_pid(self) -> bytes | None:
        """None where it cannot be read now."""
        try:
            last_pid = read_kernel_file(f"{self._proc}/loadavg").split()[-1]
        except (OSError, IndexError):
            return None
        return last_pid if last_pid.isdigit() else None

    def _find_strays(self, members: Collection[int]) -> list[int]:
        """The orphans that the tree has left behind, and what descends from them."""
        strays = self._strays.find(members)
        if not strays:
            return []
        if self._tells_children:
            return strays + self._by_children({*members, *strays}, strays)
        self._listing.forget_all()  # for it has seen their children
        return strays + self._by_listing({*members, *strays})

    def _processes_on_host(self) -> int:
        """How many there are at most: the link count of /proc, without a look into it."""
        return os.stat(self._proc).st_nlink

    def _by_children(self, members: Collection[int], asked: Collection[int]) -> list[int]:
        queue = list(asked)
        newcomers = []
        for pid in queue:  # which grows meanwhile
            for child in self._children_of(pid):
                if child not in members:
                    newcomers.append(child)
                    queue.append(child)
        return newcomers

    def _children_of(self, pid: int) -> Iterator[int]:
        """Children of each thread of a process."""
        task = f"{self._proc}/{pid}/task"
        try:
            threads = os.listdir(task)
        except UNREADABLE:
            return
        for thread in threads:
            try:
                children = read_long_kernel_file(f"{task}/{thread}/children")
            except UNREADABLE:
                continue
            yield from (int(child) for child in children.split() if _PID.fullmatch(child))

    def _by_listing(self, members: Collection[int]) -> list[int]:
        parents = {pid: stat.parent_pid for pid, stat in self._listing.new(members).items()}
        newcomers: list[int] = []
        tree = set(members)
        while joined := [pid for pid, parent in parents.items() if parent in tree]:
            newcomers += joined
            tree.update(joined)
            for pid in joined:
                del parents[pid]
        for pid, parent in parents.items():
            # Its parent ended meanwhile: whose it is now, the next look will show.
            if parent and not self._listing.has(parent):
                self._listing.forget(pid)
        return newcomers


def _tells_last_pid(host: Host) -> bool:
    """Whether the last field of /proc/loadavg is the pid that this kernel gave out last.

    Not so in a recorded tree, under gVisor (always 0), with lxcfs (a file system of its own), and
    where /proc is that of another pid namespace.
    """
    if not shares_pids(host):
        return False
    try:
        own_file = os.stat("/proc/loadavg").st_dev == os.stat("/proc").st_dev
        return own_file and int(read_kernel_file("/proc/loadavg").split()[-1]) > 0
    except (OSError, ValueError, IndexError):
        return False
