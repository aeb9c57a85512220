"""The queue of a run against a plain model: whatever happens, each record is in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlflow_sysmetrics.delivery.queue import Queue, samples_of
from mlflow_sysmetrics.sampling.sink import Record

if TYPE_CHECKING:
    from collections.abc import Sequence


class QueueMachine(RuleBasedStateMachine):
    """The disk is a list; what the store has is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.records: list[Record] = []
        self.disk: list[Record] = []
        self.stored: list[int] = []
        self.batch: Sequence[Record] = ()
        self.writing: Sequence[Record] = ()

    @rule(samples=st.integers(1, 3), points=st.integers(1, 4))
    def add(self, samples: int, points: int) -> None:
        values = dict.fromkeys("abcd"[:points], 1.0)
        record = Record(self.queue.added, 1000 + self.queue.added, values, samples)
        self.records.append(record)
        self.queue.add(record)

    @precondition(lambda self: not self.batch)
    @rule(max_points=st.integers(1, 12))
    def begin_to_send(self, max_points: int) -> None:
        if self.queue.on_disk:
            waiting = (r for r in self.disk if self.queue.sent <= r.step < self.queue.head)
            self.batch = list(waiting)[:2]
        else:
            self.batch = self.queue.peek(max_points)
            points = sum(len(record.values) for record in self.batch)
            assert points <= max_points or len(self.batch) == 1

    @precondition(lambda self: self.batch)
    @rule()
    def the_store_confirms(self) -> None:
        self.stored += [record.step for record in self.batch]
        self.queue.ack(self.batch)
        self.batch = ()

    @precondition(lambda self: self.batch)
    @rule()
    def the_store_refuses(self) -> None:
        self.queue.release()
        self.batch = ()

    @precondition(lambda self: not self.writing)
    @rule()
    def begin_to_write(self) -> None:
        self.writing = self.queue.to_persist()

    @precondition(lambda self: self.writing)
    @rule()
    def the_disk_has_it(self) -> None:
        self.disk += self.writing
        self.queue.persisted_to(self.writing[-1].step + 1)
        self.writing = ()

    @precondition(lambda self: self.writing)
    @rule()
    def the_disk_refuses(self) -> None:
        self.queue.not_persisted()
        self.writing = ()

    @rule()
    def spill(self) -> None:
        self.queue.spill()

    @rule()
    def drop_oldest(self) -> None:
        self.queue.drop_oldest()

    @precondition(lambda self: not self.batch)
    @rule()
    def the_file_is_damaged(self) -> None:
        self.queue.drop_on_disk()

    @precondition(lambda self: not self.batch and not self.writing)
    @rule()
    def the_run_is_gone(self) -> None:
        assert self.queue.waiting == self.queue.drop_all()

    @invariant()
    def positions_are_in_order(self) -> None:
        queue = self.queue
        assert max(queue.head, queue.sent, queue.persisted) <= queue.added

    @invariant()
    def every_sample_is_in_one_place(self) -> None:
        queue = self.queue
        in_memory = samples_of(queue._memory)
        sent = sum(self.records[number].samples for number in self.stored)
        assert samples_of(self.records) == sent + queue.dropped + queue.on_disk + in_memory
        assert queue.waiting == queue.on_disk + in_memory
        assert queue.size_bytes == sum(record.size_bytes for record in queue._memory)

    @invariant()
    def nothing_is_sent_twice_or_out_of_order(self) -> None:
        assert self.stored == sorted(set(self.stored))

    @invariant()
    def what_a_crash_would_lose_is_what_neither_disk_nor_store_has(self) -> None:
        safe = {record.step for record in self.disk} | set(self.stored)
        at_risk = {record.step for record in self.queue.in_memory_only()}
        assert not safe & at_risk


TestQueue = QueueMachine.TestCase
