"""Which processes left a tree before they were seen in it, from /proc.

`cmd &` in a shell that ends, `setsid`, `nohup`, daemons: their parent ends, and init or another
ancestor of the root adopts them. Linux does not say who their parent was. But a process inherits
its process group, session and control group, so whoever started it was in the same ones. A new
orphan is the tree's if nobody else in the same group can have started a process since the last
look: everyone has used no CPU time, or has no new child and has waited for none.

The group is the narrowest one that existed before: the process group or the session; for an
orphan with a session of its own, a control group or container that holds few other processes. In
doubt an orphan is a stranger, and stays one.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cgroup_paths import UNIFIED, find_cgroup
from mlflow_sysmetrics.sources.kernel_file import read_kernel_file, read_long_kernel_file
from mlflow_sysmetrics.sources.proc_clock import has_cpu_clocks, process_clock_ns
from mlflow_sysmetrics.sources.proc_listing import Listing
from mlflow_sysmetrics.sources.proc_pid import (
    CLOCK_TICKS,
    UNREADABLE,
    ignores_sigchld,
    parse_stat,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mlflow_sysmetrics.host.host import Host
    from mlflow_sysmetrics.sources.proc_pid import Stat

_MOST_OTHERS = 64
"""A session or container with more processes beside the tree is not watched: it would cost much."""

_CONTROLLERS = (UNIFIED, "pids", "memory", "cpu", "cpuacct")
"""Whose groups may be a container's or a job's own."""

_CONTAINER_INITS = {b"tini", b"docker-init", b"dumb-init", b"catatonit", b"podman-init"}
"""They start one program as they begin, and after that only adopt."""

_NOBODY: frozenset[int] = frozenset()


class _Other(NamedTuple):
    """A process outside of the tree, as it stood."""

    stat: Stat
    clock_ns: int | None


class Strays:
    """Finds the orphans that a tree has left behind since the last look.

    Args:
        host: The machine.
        root_pid: Root of the tree.
    """

    def __init__(self, host: Host, root_pid: int) -> None:
        self._host = host
        self._proc = os.fspath(host.procfs)
        self._has_cpu_clocks = has_cpu_clocks(host)
        self._root_pid = root_pid
        self._listing = Listing(self._proc)
        self._looked_at = self._now()
        self._is_first_look = True
        self._own_sessions: set[int] = set()
        self._root = self._stat_of(root_pid)
        self._ancestors = self._find_ancestors()
        self._others: dict[int, _Other] = {}
        self._others = {pid: each for pid in self._ancestors if (each := self._as_it_stands(pid))}
        self._cgroup = ""
        self._container: Collection[int] = _NOBODY

    def may_be(self, parent_pid: int) -> bool:
        """Whether a new process may be an orphan of the tree, by who its parent is."""
        return parent_pid in self._ancestors

    def find(self, members: Collection[int]) -> list[int]:
        """The orphans that are the tree's, in the order of their start.

        Args:
            members: All processes known to be in the tree.
        """
        if not self._ancestors:  # the root is init itself: what it adopts are its children
            return []
        now = self._now()
        # Before the listing: what one of them starts after it shows as new next time.
        after = {pid: each for pid in self._others if (each := self._as_it_stands(pid)) is not None}
        new = self._new_outside(members)
        self._ancestors = self._find_ancestors()
        was_in_container, self._container = self._container, self._find_container(members)
        orphans = {pid: stat for pid, stat in new.items() if stat.parent_pid in self._ancestors}
        strangers = {pid: each.stat for pid, each in self._others.items()}
        strangers |= {pid: stat for pid, stat in new.items() if pid not in orphans}
        tree = set(members)
        strays = []
        for pid, orphan in sorted(orphans.items(), key=lambda each: each[1].start_ticks):
            if self._is_own(pid, orphan, tree, strangers, was_in_container):
                strays.append(pid)
                tree.add(pid)
                self._own_sessions.add(orphan.session)
            else:
                strangers[pid] = orphan
        known = {pid: _Other(stat, None) for pid, stat in new.items()} | after
        self._root = self._stat_of(self._root_pid) or self._root
        self._others = {pid: each for pid, each in known.items() if self._is_near(pid, each, tree)}
        if len(self._others) > _MOST_OTHERS:
            self._ancestors = []  # given up
        self._looked_at, self._is_first_look = now, False
        return strays

    def _is_own(
        self,
        pid: int,
        orphan: Stat,
        tree: Collection[int],
        strangers: Mapping[int, Stat],
        was_in_container: Collection[int],
    ) -> bool:
        """Whether only the tree can have started an orphan.

        Args:
            pid: The orphan.
            orphan: The same.
            tree: All that is in the tree.
            strangers: All others that were there at the last look, or are new.
            was_in_container: Who was in the container at the last look.
        """
        parent, root = self._stat_of(orphan.parent_pid), self._root
        if parent is None or root is None:
            return False
        # A group or session that is named after a process of the tree was made by that process.
        if orphan.group in tree or orphan.group == root.group:
            suspects = [each for each in strangers if strangers[each].group == orphan.group]
        elif orphan.session in {*tree, root.session, *self._own_sessions}:
            suspects = [each for each in strangers if strangers[each].session == orphan.session]
        elif pid in self._container:
            could = {*self._container, *was_in_container}
            suspects = [each for each in strangers if each in could]
            return (
                orphan.start_ticks >= self._looked_at
                and self._adopts_only(orphan.parent_pid, from_outside=True)
                and self._have_started_none(suspects, orphan.parent_pid, strangers)
            )
        else:
            return False
        was_adopted = parent.session != orphan.session
        if orphan.start_ticks < self._looked_at:
            # Of what others did before the first look nothing is known.
            was_made_by_tree = orphan.group in tree or orphan.session in tree
            is_younger = orphan.start_ticks >= root.start_ticks
            was_adopted = self._is_first_look and was_adopted and was_made_by_tree and is_younger
            return was_adopted and not suspects
        return (was_adopted or self._adopts_only(orphan.parent_pid)) and self._have_started_none(
            suspects, orphan.parent_pid, strangers
        )

    def _adopts_only(self, pid: int, *, from_outside: bool = False) -> bool:
        """Whether a process cannot have started a child since the last look.

        Args:
            pid: The process.
            from_outside: Whether an init outside of the container starts nothing in it.
        """
        if from_outside and pid not in self._container:
            return pid == 1 or self._name_of(pid) == b"systemd"
        before = self._others.get(pid)
        if before and before.clock_ns is not None and before.clock_ns == self._clock_of(pid):
            return True
        return self._name_of(pid) in _CONTAINER_INITS

    def _have_started_none(
        self, suspects: Collection[int], parent_pid: int, strangers: Mapping[int, Stat]
    ) -> bool:
        """Whether none of these strangers can have started a process since the last look."""
        starters = {
            stat.parent_pid for stat in strangers.values() if stat.start_ticks >= self._looked_at
        }
        return all(
            pid == parent_pid or self._has_started_none(pid, may_wait=pid not in starters)
            for pid in suspects
        )

    def _has_started_none(self, pid: int, *, may_wait: bool) -> bool:
        before, now = self._others.get(pid), self._as_it_stands(pid)
        if now is None:
            return False
        if before is not None and before.clock_ns is not None and before.clock_ns == now.clock_ns:
            return True
        waited_faults = before.stat.waited_faults if before is not None else 0
        has_waited = now.stat.waited_faults != waited_faults
        return may_wait and not has_waited and not ignores_sigchld(f"{self._proc}/{pid}")

    def _is_near(self, pid: int, other: _Other, tree: Collection[int]) -> bool:
        """Whether it is outside of the tree, and may start what could be taken for the tree's."""
        if pid in tree or self._root is None:
            return False
        return other.stat.session == self._root.session or pid in self._container

    def _new_outside(self, members: Collection[int]) -> dict[int, Stat]:
        """Processes that are seen for the first time, without those that the tree has started."""
        new = self._listing.new(members)
        tree = set(members)
        while children := [pid for pid, stat in new.items() if stat.parent_pid in tree]:
            tree.update(children)
            for pid in children:  # it joins the tree next time, or has become an orphan until then
                del new[pid]
                self._listing.forget(pid)
        return new

    def _find_container(self, members: Collection[int]) -> Collection[int]:
        """The processes of the smallest group that holds the tree and few others."""
        listed = self._listing.pids() if self._stat_of(1) is not None else _NOBODY
        if self._is_first_look:
            groups = _groups_of(self._host)
            sizes = {group: size for group in groups if (size := len(self._pids_in(group)))}
            self._cgroup = min(sizes, key=lambda group: sizes[group], default="")
            # Where /proc lists no more, as in a container, it lists all that there are.
            if 0 < len(listed) <= sizes.get(self._cgroup, math.inf):
                self._cgroup = ""
        pids = self._pids_in(self._cgroup) if self._cgroup else listed
        return pids if len(pids) <= len(members) + _MOST_OTHERS else _NOBODY

    def _pids_in(self, cgroup: str) -> Collection[int]:
        """Its processes; none where it does not hold the root, or some that cannot be seen here."""
        try:
            pids = set(map(int, read_long_kernel_file(f"{cgroup}/cgroup.procs").split()))
        except OSError:
            return _NOBODY
        return pids if self._root_pid in pids and 0 not in pids else _NOBODY

    def _find_ancestors(self) -> list[int]:
        ancestors: list[int] = []
        stat = self._stat_of(self._root_pid)
        while stat is not None and stat.parent_pid not in {0, *ancestors}:
            ancestors.append(stat.parent_pid)
            stat = self._stat_of(stat.parent_pid)
        return ancestors

    def _as_it_stands(self, pid: int) -> _Other | None:
        """A stranger; None where it has ended, or its pid is another's than at the last look."""
        clock_ns, known = self._clock_of(pid), self._others.get(pid)
        if known is not None and clock_ns is not None and clock_ns == known.clock_ns:
            return known
        stat = self._stat_of(pid)
        if stat is None or (known is not None and known.stat.start_ticks != stat.start_ticks):
            return None
        return _Other(stat, clock_ns)

    def _stat_of(self, pid: int) -> Stat | None:
        with suppress(*UNREADABLE, ParseError):
            return parse_stat(read_kernel_file(f"{self._proc}/{pid}/stat"))
        return None

    def _name_of(self, pid: int) -> bytes:
        with suppress(*UNREADABLE):
            return read_kernel_file(f"{self._proc}/{pid}/comm").rstrip()
        return b""

    def _clock_of(self, pid: int) -> int | None:
        return process_clock_ns(pid) if self._has_cpu_clocks else None

    def _now(self) -> int:
        return math.floor(self._host.clock.now_s() * CLOCK_TICKS)


def _groups_of(host: Host) -> list[str]:
    """The directories of the groups that the process is in."""
    directories: list[str] = []
    for controller in _CONTROLLERS:
        with suppress(Unavailable):
            directories.append(os.fspath(find_cgroup(host, controller).directories[0]))
    return directories
