"""A process and all that descend from it, through psutil: macOS, Windows and the like."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.sources.process_use import PrivateMemory, ProcessUse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_ROUNDING_S = 1.0
"""Start times are on a clock that some systems know to the second only."""


class PsutilTree:
    """The tree of a root process; a process once in it stays, whoever becomes its parent.

    Args:
        root_pid: The root.
        children: Whether what descends from the root counts.
        more_roots: Gives the processes whose trees count, too.

    Raises:
        Unavailable: There is no such process.
    """

    inherits_io = False

    def __init__(
        self,
        root_pid: int,
        *,
        children: bool = True,
        more_roots: Callable[[], Collection[int]] = tuple,
    ) -> None:
        self._has_children = children
        self._more_roots = more_roots
        self._roots = {root_pid}
        self._others: list[psutil.Process] = []
        try:
            self._root = psutil.Process(root_pid)
        except psutil.Error as error:
            raise Unavailable(str(error)) from error
        # psutil's handles are equal where pid and start time are; kept, they remember both.
        self._members: dict[psutil.Process, ProcessUse | None] = {self._root: None}

    def now(self) -> float:
        """Seconds since the epoch, by the earliest that a process of now may be said to begin."""
        return time.time() - _ROUNDING_S

    def sample(self) -> list[ProcessUse]:
        """Each process once, parents before their children.

        Raises:
            Unavailable: The root has ended.
            Transient: Its children cannot be listed now.
        """
        try:
            children = self._root.children(recursive=True) if self._has_children else []
        except psutil.NoSuchProcess as error:
            raise Unavailable(str(error)) from error
        except psutil.Error as error:
            raise Transient(str(error)) from error
        for process in [*self._other_trees(), *children]:
            self._members.setdefault(process, None)
        uses = {process: _use_of(process, known) for process, known in self._members.items()}
        self._members = {process: use for process, use in uses.items() if use is not None}
        if self._root not in self._members:
            raise Unavailable(f"process {self._root.pid} has ended or may not be read")
        return [use for use in uses.values() if use is not None]

    def _other_trees(self) -> Iterator[psutil.Process]:
        """The other roots, and what descends from them; a pid counts once, as it may be reused."""
        for pid in self._more_roots():
            if pid not in self._roots:
                self._roots.add(pid)
                with suppress(psutil.Error):
                    self._others.append(psutil.Process(pid))
        for other in self._others:
            yield other
            with suppress(psutil.Error):
                yield from other.children(recursive=True)

    def whole_cpu_s(self) -> float | None:
        """Nobody counts it."""
        return None

    def private_memory(self) -> PrivateMemory | None:
        """USS where the system reports it; it has no PSS."""
        found = [memory for process in self._members if (memory := _uss_bytes_of(process))]
        return PrivateMemory(sum(found), None) if found else None


def _use_of(process: psutil.Process, known: ProcessUse | None) -> ProcessUse | None:
    """A process as it stands, or as it was known where it may not be read; None if it ended."""
    try:
        if not process.is_running():  # which heeds that its pid may be another's by now
            return None
        with process.oneshot():
            cpu = process.cpu_times()
            memory = process.memory_info()
            read_bytes, write_bytes = _transfers_of(process)
            return ProcessUse(
                pid=process.pid,
                start=process.create_time(),
                parent_pid=process.ppid(),
                threads=process.num_threads(),
                rss_bytes=memory.rss,
                vms_bytes=memory.vms,
                fds=_fds_of(process),
                cpu_s=cpu.user + cpu.system,
                reaped_cpu_s=cpu.children_user + cpu.children_system,
                read_bytes=read_bytes,
                write_bytes=write_bytes,
            )
    except psutil.NoSuchProcess:  # a zombie, too
        return None
    except psutil.Error:
        return known


def _transfers_of(process: psutil.Process) -> tuple[int | None, int | None]:
    try:
        counters = process.io_counters()
    except (psutil.AccessDenied, AttributeError):  # macOS has none
        return None, None
    return counters.read_bytes, counters.write_bytes


def _fds_of(process: psutil.Process) -> int | None:
    """Descriptors, or handles on Windows; None where they may not be counted."""
    count = getattr(process, "num_fds", None) or getattr(process, "num_handles", None)
    try:
        return int(count()) if count else None
    except psutil.AccessDenied:
        return None


def _uss_bytes_of(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_full_info().uss)
    except (psutil.Error, AttributeError):
        return None
