"""What one process uses, and what can list the processes of a tree."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class ProcessUse(NamedTuple):
    """One process as it stands; a pid and a start time are one process for ever.

    Attributes:
        pid: Process id.
        start: When it began, in the unit of its source's `now()`.
        parent_pid: Its parent at this moment: orphans get another.
        threads: 0 for a process that is ending or a zombie, with nothing left but its counters.
        rss_bytes: Resident memory; None where it cannot be read now.
        vms_bytes: Address space; None as before.
        fds: Open descriptors (handles on Windows); None where they may not be counted.
        cpu_s: CPU time of its own.
        reaped_cpu_s: CPU time of those children that ended and were waited for, with all that
            those had inherited so.
        read_bytes: Read from storage; None where it may not be known.
        write_bytes: Written to storage; None as before.
        cancelled_bytes: Counted in `write_bytes` and then not written, for the file was deleted or
            cut before that. It may be another process that had written them.
    """

    pid: int
    start: float
    parent_pid: int
    threads: int
    rss_bytes: int | None
    vms_bytes: int | None
    fds: int | None
    cpu_s: float
    reaped_cpu_s: float
    read_bytes: int | None
    write_bytes: int | None
    cancelled_bytes: int = 0


class PrivateMemory(NamedTuple):
    """Memory of a tree with sharing taken into account.

    Attributes:
        uss_bytes: What no other process shares.
        pss_bytes: With each shared page divided among those that share it; None where the
            system does not report it.
        swap_bytes: What of it is in swap, counted as PSS; None as before.
    """

    uss_bytes: int
    pss_bytes: int | None
    swap_bytes: int | None = None


class ProcessSource(Protocol):
    """A process and all that descend from it.

    Attributes:
        inherits_io: The storage counters hold those of children that were waited for.
    """

    inherits_io: bool

    def now(self) -> float:
        """Current time on the scale of `ProcessUse.start`."""

    def sample(self) -> list[ProcessUse]:
        """Each process once, parents read before their children.

        Raises:
            Unavailable: The root has ended.
        """

    def whole_cpu_s(self) -> float | None:
        """CPU time of all that was in the tree, seen or not, between the last two samples.

        None where nobody counts it, or it may be others' too.
        """

    def private_memory(self) -> PrivateMemory | None:
        """Over the processes of the last sample; dear. None where none may be read."""

    def open_files_limit(self, pid: int) -> int | None:
        """How many files a process may have open; None where that is not known."""
