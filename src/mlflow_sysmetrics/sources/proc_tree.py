"""A process and all that descend from it, from Linux's /proc."""

# A Path costs as much as the read itself, at every tick.
# ruff: noqa: PTH116, PTH208

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.host.file_helper import helper_pids
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.kernel_file import read_kernel_file
from mlflow_sysmetrics.sources.own_cgroup import OwnCgroup
from mlflow_sysmetrics.sources.proc_clock import has_cpu_clocks, process_clock_ns
from mlflow_sysmetrics.sources.proc_discovery import ProcessDiscovery
from mlflow_sysmetrics.sources.proc_pid import (
    CLOCK_TICKS,
    UNREADABLE,
    parse_io,
    parse_smaps_rollup,
    parse_stat,
    parse_statm,
)
from mlflow_sysmetrics.sources.process_use import PrivateMemory, ProcessUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.host.host import Host
    from mlflow_sysmetrics.sources.proc_pid import Stat

_REREAD_APART = 16
"""The other files of an idle process are read every so many ticks, each process in its turn."""


_Holdings: TypeAlias = "tuple[int | None, int | None, int | None]"
"""Open descriptors, address space and resident memory in bytes; None for what is not known."""


class _Member(NamedTuple):
    clock_ns: int | None  # before the rest was read
    stat_line: bytes
    use: ProcessUse


class ProcTree:
    """The tree of a root process; a process once in it stays, whoever becomes its parent.

    The host may give more roots, whose trees count as if they were the root's.

    A process whose CPU clock stands still has done nothing since the last tick; nor has one whose
    `stat` is the same to the byte, times and page faults included. Its files are then not read
    again each time.

    Args:
        host: The machine.
        root_pid: The root.
        children: Whether what descends from the root counts.

    Raises:
        Unavailable: There is no such process.
    """

    inherits_io = True

    def __init__(self, host: Host, root_pid: int, *, children: bool = True) -> None:
        self._host = host
        self._proc = os.fspath(host.procfs)
        # From Linux 6.2 on the size of a real `fd` directory is the number of its entries.
        self._fd_size_may_count = host.root == Path("/")
        self._root_pid = root_pid
        self._newcomers = ProcessDiscovery(host, root_pid) if children else None
        self._has_cpu_clocks = has_cpu_clocks(host)
        self._tick = 0
        self._roots = {root_pid}
        self._somebody_ended = False
        root = self._read(root_pid, None)
        if root is None:
            raise Unavailable(f"there is no process {root_pid}")
        self._members = {root_pid: root}
        self._cgroup: OwnCgroup | None = None
        if children:
            with suppress(Unavailable):
                self._cgroup = OwnCgroup(host)

    def now(self) -> float:
        """Whole ticks since the machine started."""
        return math.floor(self._host.clock.now_s() * CLOCK_TICKS)

    def sample(self) -> list[ProcessUse]:
        """Each process once, parents before their children.

        A root that is ending comes until its counters are complete: it is a zombie then, for
        which nobody has waited yet.

        Raises:
            Unavailable: The root has ended.
        """
        self._tick += 1
        if self._cgroup is not None:
            self._cgroup.read()
        if self._newcomers is not None:
            self._newcomers.prepare()
        members: dict[int, _Member] = {}
        for pid, known in self._members.items():
            member = self._read(pid, known)
            if member is not None:
                members[pid] = member
            elif self._newcomers is not None:
                self._newcomers.forget(pid)
        # Its children get another parent without doing anything.
        self._somebody_ended = len(members) < len(self._members)
        self._add_roots(members)
        for pid in self._find_newcomers(members):
            member = self._read(pid, None)
            if member is not None:
                members[pid] = member
        root, root_before = members.get(self._root_pid), self._members[self._root_pid]
        if root is None or (not root.use.threads and root.stat_line == root_before.stat_line):
            raise Unavailable(f"process {self._root_pid} has ended")
        self._members = members
        return [member.use for member in members.values()]

    def whole_cpu_s(self) -> float | None:
        """That of the control group, where it holds nothing else that was awake."""
        return None if self._cgroup is None else self._cgroup.used_s(self._members)

    def private_memory(self) -> PrivateMemory | None:
        """Summed over `smaps_rollup`, which holds up the process's own memory mapping meanwhile.

        None where it is absent (before Linux 4.14) or of other users only.

        Raises:
            ParseError: That of one process is not as expected, so that a sum would be too small.
        """
        uss_bytes = pss_bytes = 0
        for pid in self._members:
            try:
                content = read_kernel_file(f"{self._proc}/{pid}/smaps_rollup")
            except UNREADABLE:
                continue
            uss, pss = parse_smaps_rollup(content)
            uss_bytes += uss
            pss_bytes += pss
        return PrivateMemory(uss_bytes, pss_bytes) if pss_bytes else None

    def _add_roots(self, members: dict[int, _Member]) -> None:
        """Let the trees of further roots count from now on; each once, as its pid may be reused."""
        for pid in self._host.more_roots():
            if pid in self._roots:
                continue
            self._roots.add(pid)
            member = None if pid in members else self._read(pid, None)
            if member is not None:
                members[pid] = member
                if self._newcomers is not None:
                    self._newcomers.join(pid)

    def _find_newcomers(self, members: Mapping[int, _Member]) -> list[int]:
        if self._newcomers is None:
            return []
        threads = {pid: member.use.threads for pid, member in members.items()}
        awake = [pid for pid, member in members.items() if member is not self._members.get(pid)]
        ours = helper_pids()  # to the first process of a container, all orphans are children
        return [pid for pid in self._newcomers.find(threads, awake) if pid not in ours]

    def _read(self, pid: int, known: _Member | None) -> _Member | None:
        """A process as it stands; None where it has ended or its pid is another's by now.

        One whose `stat` is not as expected is as it was, for it may well go on.

        It is `known` itself only where it has not run: starting a child may leave `stat` as it was.
        """
        is_known = known is not None and known.use.rss_bytes is not None
        may_rest = is_known and (self._tick + pid) % _REREAD_APART
        clock_ns = process_clock_ns(pid) if self._has_cpu_clocks else None
        has_slept = known is not None and clock_ns is not None and clock_ns == known.clock_ns
        if has_slept and may_rest and not self._somebody_ended:
            return known
        try:
            line = read_kernel_file(f"{self._proc}/{pid}/stat")
            if known and may_rest and line == known.stat_line:
                return known._replace(clock_ns=clock_ns)
            stat = parse_stat(line)
            if known and stat.start_ticks != known.use.start:
                return None
            use = self._use_of(pid, stat, clock_ns, known.use if known else None)
            return _Member(clock_ns, line, use)
        except UNREADABLE:
            return None
        except ParseError as error:
            if pid == self._root_pid:
                raise Transient(f"process {pid}: {error}") from error
            return known

    def _use_of(
        self, pid: int, stat: Stat, clock_ns: int | None, known: ProcessUse | None
    ) -> ProcessUse:
        # To other users than root a zombie no longer shows what it transferred.
        last = known[-3:] if known else (None, None, 0)
        read_bytes, write_bytes, cancelled_bytes = self._transfers_of(pid) or last
        fds, vms_bytes, rss_bytes = self._holdings_of(pid, stat.threads)
        return ProcessUse(
            pid=pid,
            start=stat.start_ticks,
            parent_pid=stat.parent_pid,
            threads=0 if vms_bytes == 0 else stat.threads,
            rss_bytes=rss_bytes,
            vms_bytes=vms_bytes,
            fds=fds,
            # The clock is exact; `stat` rounds down, twice for each process.
            cpu_s=stat.own_ticks / CLOCK_TICKS if clock_ns is None else clock_ns / 1e9,
            reaped_cpu_s=stat.waited_ticks / CLOCK_TICKS if self._newcomers else 0.0,
            read_bytes=read_bytes,
            write_bytes=write_bytes,
            cancelled_bytes=cancelled_bytes,
        )

    def _holdings_of(self, pid: int, threads: int) -> _Holdings:
        """Of a process; zeros if it is ending."""
        holdings = self._holdings_in(f"{self._proc}/{pid}")
        if holdings is None and threads > 1:  # the main thread has ended before others
            tasks = f"{self._proc}/{pid}/task"
            for thread in os.listdir(tasks):
                with suppress(*UNREADABLE):
                    holdings = holdings or self._holdings_in(f"{tasks}/{thread}")
        return holdings or (0, 0, 0)

    def _holdings_in(self, folder: str) -> _Holdings | None:
        """As above, of one thread; None where it has given up its memory."""
        # Memory is what it gives up first: if that is there afterwards, the descriptors were too.
        fds = self._fds_in(f"{folder}/fd")
        statm = read_kernel_file(f"{folder}/statm")
        try:
            vms_bytes, rss_bytes = parse_statm(statm)
        except ParseError:
            return fds, None, None
        return (fds, vms_bytes, rss_bytes) if vms_bytes else None

    def _transfers_of(self, pid: int) -> tuple[int, int, int] | None:
        """As `parse_io`; None for another user's process, or a kernel that keeps none."""
        try:
            return parse_io(read_kernel_file(f"{self._proc}/{pid}/io"))
        except (*UNREADABLE, ParseError):
            return None

    def _fds_in(self, path: str) -> int | None:
        """Open descriptors; None for another user's process."""
        try:
            size = os.stat(path).st_size if self._fd_size_may_count else 0
            return size or len(os.listdir(path))
        except UNREADABLE:
            return None
