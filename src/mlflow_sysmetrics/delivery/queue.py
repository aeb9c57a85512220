"""The queue of one run: records on their way to the store, in memory and on disk.

A record has its number when it is added, and keeps it: its step. Numbers and positions only rise:

    sent          persisted                    added
     |  on disk only  |                          |
     |--------|-------|--------------------------|
            head   in memory and on disk up to `persisted`, then in memory only

`head` is where memory begins. All before it is sent, on disk, or dropped. What is dropped leaves a
gap in the numbers. Counted in samples, after every operation:

    added = sent + dropped + on disk only + in memory

The queue knows no file, no store and no clock. It is safe to use from several threads.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_sysmetrics.sampling.sink import Record

_BEYOND_ALL = sys.maxsize  # what was left on disk may have any number


class Queue:
    """The records of one run that the store does not have yet.

    Args:
        on_disk: Samples that an earlier process left on disk; they come first.
        sent: The store has all records before this number.
        dropped: Samples that the earlier process dropped.

    Attributes:
        added: Number after the last record's.
        head: Records in memory have this number or a higher one.
        sent: The store has all records before this number, but for those that were dropped.
        persisted: Records in memory before this number are on disk, too.
        on_disk: Samples that are on disk only.
        dropped: Samples that were dropped.
        size_bytes: Memory that the records take.
    """

    def __init__(self, on_disk: int = 0, sent: int = 0, dropped: int = 0) -> None:
        # Reentrant, for a signal handler that ends the run while it is being ended.
        self._lock = threading.RLock()
        self._memory: deque[Record] = deque()
        self._in_memory = 0
        self._held_to = {"send": 0, "write": 0}  # the store, or the disk, may be getting these
        self.added = self.head = self.persisted = _BEYOND_ALL if on_disk else sent
        self.sent = sent
        self.on_disk = on_disk
        self.dropped = dropped
        self.size_bytes = 0

    @property
    def waiting(self) -> int:
        """Samples that wait."""
        with self._lock:
            return self.on_disk + self._in_memory

    @property
    def unpersisted(self) -> int:
        """Samples that a crash would lose."""
        return samples_of(self.in_memory_only())

    def in_memory_only(self) -> list[Record]:
        """The records that a crash would lose."""
        with self._lock:
            newest_first = takewhile(
                lambda each: each.step >= self.persisted, reversed(self._memory)
            )
            return list(newest_first)[::-1]

    def add(self, record: Record) -> None:
        """Append a record, with the number `added` or a higher one."""
        with self._lock:
            self._memory.append(record)
            self._in_memory += record.counts_as
            self.added = record.step + 1
            self.size_bytes += record.size_bytes

    # Sending

    def peek(self, max_entries: int) -> list[Record]:
        """The oldest records, at least one, that have no more points and tags together.

        None while some are on disk only, since those come first. They stay until `ack`; until that
        or `release` they are not dropped.
        """
        with self._lock:
            batch = [] if self.on_disk else up_to(max_entries, self._memory)
            self._held_to["send"] = batch[-1].step + 1 if batch else 0
            return batch

    def ack(self, batch: Sequence[Record]) -> None:
        """Remove the oldest records, which the store has confirmed."""
        with self._lock:
            self.release()
            from_disk = samples_of(each for each in batch if each.step < self.head)
            self.on_disk = max(0, self.on_disk - from_disk)
            self.sent = batch[-1].step + 1
            self._free_before(self.sent)

    def release(self) -> None:
        """The records that `peek` gave were not sent."""
        self._held_to["send"] = 0

    # The disk

    def to_persist(self) -> list[Record]:
        """The records to write; they are not dropped until `persisted_to` or `not_persisted`."""
        with self._lock:
            records = self.in_memory_only()
            self._held_to["write"] = records[-1].step + 1 if records else 0
            return records

    def persisted_to(self, number: int) -> None:
        """Records before this number are on disk."""
        with self._lock:
            self.persisted = number
            self.not_persisted()

    def not_persisted(self) -> None:
        """The disk refused."""
        self._held_to["write"] = 0

    def spill(self) -> None:
        """Free the memory of the records that are on disk."""
        with self._lock:
            self.on_disk += self._free_before(self.persisted)

    # Loss

    def drop_oldest(self) -> bool:
        """Drop the oldest record that is in memory only; False where there is none to drop."""
        with self._lock:
            free_from = max(self.persisted, *self._held_to.values())
            for place, record in enumerate(self._memory):
                if record.step >= free_from:
                    del self._memory[place]
                    self._in_memory -= record.counts_as
                    self.size_bytes -= record.size_bytes
                    self.dropped += record.counts_as
                    return True
            return False

    def drop_on_disk(self) -> None:
        """Drop what is on disk only: the file is gone, or damaged."""
        with self._lock:
            self.dropped += self.on_disk
            self.on_disk = 0

    def drop_all(self) -> int:
        """Drop all that waits; how many samples that was."""
        with self._lock:
            lost = self.waiting
            self.dropped += lost
            self._memory.clear()
            self._in_memory = self.size_bytes = self.on_disk = 0
            return lost

    def _free_before(self, number: int) -> int:
        """Free the memory of the records before a number; how many samples that was."""
        before = self._in_memory
        while self._memory and self._memory[0].step < number:
            record = self._memory.popleft()
            self.size_bytes -= record.size_bytes
            self._in_memory -= record.counts_as
        self.head = max(self.head, number)
        return before - self._in_memory


def samples_of(records: Iterable[Record]) -> int:
    """How many samples they are made of; a record without values counts as one."""
    return sum(each.counts_as for each in records)


def up_to(max_entries: int, records: Iterable[Record]) -> list[Record]:
    """The first records, at least one, that have no more points and tags together."""
    taken: list[Record] = []
    entries = 0
    for record in records:
        entries += record.entries
        if taken and entries > max_entries:
            break
        taken.append(record)
    return taken
