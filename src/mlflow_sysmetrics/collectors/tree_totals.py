"""What a process tree has used since it was first seen, in totals that never fall.

A parent that waits for a child takes over the child's counters, all at once and with all that the
child took over itself. So the sum over the living would be right, but for what nobody waits for,
and for what a glance at a moving tree misses. Hence the increments are added up here: of its own
counters always; of what a parent takes over, only what was not yet counted on the child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.sources.process_use import ProcessUse


class InheritedCounter:
    """The total of one quantity that parents inherit from children they wait for.

    What was counted on a child that has gone is expected to show up once more with its heir. It
    may do so a tick later, for parents are read before their children; after that it was lost
    (nobody waited for the child), and nothing more is held against the heir.

    Attributes:
        total: What was counted; never falls.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._expected: dict[int, float] = {}
        self._expected_before: dict[int, float] = {}

    def bequeath(self, pid: int, counted: float, heir_pid: int | None) -> None:
        """A process has gone.

        Args:
            pid: The process.
            counted: Where its counter stood.
            heir_pid: The nearest ancestor that still lives; None where that is not in the tree.
        """
        counted += self._expected.pop(pid, 0.0) + self._expected_before.pop(pid, 0.0)
        if heir_pid is not None and counted:
            self._expected[heir_pid] = self._expected.get(heir_pid, 0.0) + counted

    def add(self, pid: int, own: float, inherited: float) -> None:
        """A process has used `own` more, and `inherited` so much from its children or itself."""
        inherited = max(0.0, inherited)
        for expected in (self._expected_before, self._expected):
            if pid in expected:
                known = min(inherited, expected[pid])
                expected[pid] -= known
                inherited -= known
        self.total += max(0.0, own) + inherited

    def end_tick(self) -> None:
        """All processes have been added."""
        self._expected_before, self._expected = self._expected, {}


class TreeTotals:
    """CPU time and storage transfers of a tree, from the first update on.

    Args:
        opened: When the first update is made; a process that began earlier and is found later
            starts where it is found, any other at zero.
        inherits_io: Parents take over storage counters too, as on Linux.

    Attributes:
        has_io: Whether some process has reported its storage counters.
    """

    def __init__(self, opened: float, *, inherits_io: bool) -> None:
        self.has_io = False
        self._opened = opened
        self._inherits_io = inherits_io
        self._cpu_s = InheritedCounter()
        self._unseen_cpu_s = 0.0
        self._unseen_at_most_s = 0.0
        self._read_bytes = InheritedCounter()
        self._write_bytes = InheritedCounter()
        self._cancelled_bytes = InheritedCounter()
        self._written_bytes = 0.0
        self._previous: Mapping[int, ProcessUse] = {}

    @property
    def cpu_s(self) -> float:
        """CPU time, in seconds."""
        return self._cpu_s.total + self._unseen_cpu_s

    @property
    def read_bytes(self) -> float:
        """Read from storage."""
        return self._read_bytes.total

    @property
    def write_bytes(self) -> float:
        """Written to storage, without what was deleted before that.

        What was counted here and then deleted is made up for by what is written later.
        """
        return self._written_bytes

    def update(self, processes: Sequence[ProcessUse], whole_cpu_s: float | None = None) -> None:
        """Take in the tree as it stands.

        Args:
            processes: Each of the tree once.
            whole_cpu_s: CPU time of all that was in it since the last update, seen or not; None
                where that is not known.
        """
        seen_before_s = self._cpu_s.total
        alive = {use.pid: use for use in processes}
        for pid, use in self._previous.items():
            if alive.get(pid) is not use and not _is_in(alive, use):
                self._bequeath(use, alive)
        first = not self._previous
        for use in processes:
            before = self._previous.get(use.pid)
            if before is use:
                continue  # it did nothing
            if before is None or before.start != use.start:
                before = use if first or use.start < self._opened else _at_birth(use)
            self._add(before, use)
        for quantity in (self._cpu_s, self._read_bytes, self._write_bytes, self._cancelled_bytes):
            quantity.end_tick()
        written_bytes = self._write_bytes.total - self._cancelled_bytes.total
        self._written_bytes = max(self._written_bytes, written_bytes)
        self._previous = alive
        self._add_unseen(whole_cpu_s, self._cpu_s.total - seen_before_s)

    def _add_unseen(self, whole_cpu_s: float | None, seen_cpu_s: float) -> None:
        """What was used beyond that which was seen; both are not read at the same moment."""
        if whole_cpu_s is None:
            self._unseen_at_most_s = self._unseen_cpu_s
        else:
            self._unseen_at_most_s += whole_cpu_s - seen_cpu_s
            self._unseen_cpu_s = max(self._unseen_cpu_s, self._unseen_at_most_s)

    def _bequeath(self, gone: ProcessUse, alive: Mapping[int, ProcessUse]) -> None:
        heir_pid = self._heir_of(gone, alive)
        self._cpu_s.bequeath(gone.pid, gone.cpu_s + gone.reaped_cpu_s, heir_pid)
        if self._inherits_io:
            self._read_bytes.bequeath(gone.pid, gone.read_bytes or 0, heir_pid)
            self._write_bytes.bequeath(gone.pid, gone.write_bytes or 0, heir_pid)
            self._cancelled_bytes.bequeath(gone.pid, gone.cancelled_bytes, heir_pid)

    def _heir_of(self, gone: ProcessUse, alive: Mapping[int, ProcessUse]) -> int | None:
        """The nearest ancestor in the tree that still lives."""
        heir = gone
        # Bounded, as a pid that was reused during the last look could make a circle.
        for _ in self._previous:
            parent = self._previous.get(heir.parent_pid)
            if parent is None:
                break
            if _is_in(alive, parent):
                return parent.pid
            heir = parent
        return None

    def _add(self, before: ProcessUse, use: ProcessUse) -> None:
        waited_s = use.reaped_cpu_s - before.reaped_cpu_s
        self._cpu_s.add(use.pid, use.cpu_s - before.cpu_s, waited_s)
        if use.read_bytes is None or use.write_bytes is None:
            return
        self.has_io = True
        if before.read_bytes is not None and before.write_bytes is not None:
            # Where storage counters are inherited, that part cannot be told from its own.
            self._read_bytes.add(use.pid, 0, use.read_bytes - before.read_bytes)
            self._write_bytes.add(use.pid, 0, use.write_bytes - before.write_bytes)
            cancelled_bytes = use.cancelled_bytes - before.cancelled_bytes
            self._cancelled_bytes.add(use.pid, 0, cancelled_bytes)


def _is_in(alive: Mapping[int, ProcessUse], use: ProcessUse) -> bool:
    """Whether the very process is there, and not another that got its pid."""
    same_pid = alive.get(use.pid)
    return same_pid is not None and same_pid.start == use.start


def _at_birth(use: ProcessUse) -> ProcessUse:
    return use._replace(cpu_s=0.0, reaped_cpu_s=0.0, read_bytes=0, write_bytes=0, cancelled_bytes=0)
