"""Whatever goes wrong, and in whatever order, each sample is stored once, or counted as lost.

A queue and its file on disk are driven together: the disk refuses, the store refuses, or takes some
and loses its answer, and processes die and leave their file to the next one.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fakes.scripted_store import LostAnswer, ScriptedStore, sample
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool, owned_files
from mlflow_sysmetrics.delivery.stream import DROPPED_TAG, Stream
from mlflow_sysmetrics.host.file_helper import HERE

if TYPE_CHECKING:
    from mlflow_sysmetrics.sampling.sink import Record

ADDRESS = RunAddress("1", "http://somewhere", "system/")


class Store(ScriptedStore):
    """A store whose next answer to points is chosen, whatever else it is asked before."""

    def __init__(self) -> None:
        super().__init__()
        self.next_log: Exception | LostAnswer | None = None
        self.limits.batch_points = 3  # points, and so samples, in a batch

    def _answer(self, call: str) -> object:
        answer, self.next_log = (self.next_log, None) if call == "log" else (None, self.next_log)
        if isinstance(answer, Exception):
            raise answer
        return answer


class DeliveryMachine(RuleBasedStateMachine):
    """The run of one process after the other, each of which sends what those before have left."""

    def __init__(self) -> None:
        super().__init__()
        self._exits = ExitStack()
        self._folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory()))
        patch = self._exits.enter_context(pytest.MonkeyPatch.context())
        write = Spool._write

        def write_or_refuse(spool: Spool, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as it
            if not self.disk_works:
                raise OSError("No space left on device")
            write(spool, *arguments, **options)

        patch.setattr(Spool, "_write", write_or_refuse)
        # The temporary folder does not hang; to look that up takes most of the time.
        patch.setattr("mlflow_sysmetrics.delivery.spool.files_at", lambda _: HERE)
        # Else a disk would hardly ever be asked again.
        patch.setattr("mlflow_sysmetrics.delivery.stream._DISK_PAUSE_MS", 0)
        patch.setattr("mlflow_sysmetrics.delivery.stream.warn_once", lambda *_, **__: None)
        self.store = Store()
        self.records: list[Record] = []
        self.streams = [Stream(ADDRESS, self._folder)]  # the last one is this process's own
        self.disk_works = True
        self.crashed: set[int] = set()
        self.dropped_by_dead = 0
        self.dropped_before: dict[int, int] = {}
        self.has_lost_answers = False

    @property
    def own(self) -> Stream:
        return self.streams[-1]

    @rule(samples=st.integers(1, 3))
    def a_window_is_logged(self, samples: int) -> None:
        self._add(sample(len(self.records))._replace(samples=samples))

    @rule()
    def a_tag_is_set(self) -> None:
        number = len(self.records)
        self._add(sample(number)._replace(values={}, samples=0, tags={"sys.findings": str(number)}))

    def _add(self, record: Record) -> None:
        self.records.append(record)
        self.own.queue.add(record)

    @rule(which=st.integers(0, 3))
    def the_store_takes_a_batch(self, which: int) -> None:
        self._send(which)

    @rule(which=st.integers(0, 3))
    def the_store_refuses(self, which: int) -> None:
        self.store.next_log = ConnectionError("refused")
        self._send(which)

    @rule(which=st.integers(0, 3), stored=st.integers(0, 3) | st.none())
    def the_stores_answer_is_lost(self, which: int, stored: int | None) -> None:
        self.has_lost_answers = True
        self.store.next_log = LostAnswer(stored)
        self._send(which)

    def _send(self, which: int) -> None:
        stream = self.streams[which % len(self.streams)]
        if stream.unsent:
            with suppress(ConnectionError):
                stream.send(self.store)
        self.store.next_log = None

    @rule()
    def the_disk_is_asked(self) -> None:
        self.own.persist()

    @rule()
    def memory_is_short(self) -> None:
        self.own.move_to_disk()

    @precondition(lambda self: not self.disk_works)
    @rule()
    def memory_is_short_and_the_disk_full(self) -> None:
        self.own.drop_oldest()

    @rule(works=st.booleans())
    def the_disk_changes(self, works: bool) -> None:  # noqa: FBT001 - a rule's argument
        self.disk_works = works

    @rule()
    def the_process_dies_and_another_one_goes_on(self) -> None:
        self.crashed |= {each.step for each in self.own.queue.in_memory_only()}
        self.dropped_by_dead += sum(map(self._dropped, self.streams))
        left = []
        for stream in self.streams:
            path = stream.spool_path
            stream.release()
            if path is not None:
                leftover = Stream.of_spool(Spool.adopt(path), ADDRESS)
                left.append(leftover)
                if not leftover.unsent:
                    leftover.forget()
        self.streams = [*left, Stream(ADDRESS, self._folder)]
        self.dropped_before = {id(each): each.queue.dropped for each in left}

    def _dropped(self, stream: Stream) -> int:
        return stream.queue.dropped - self.dropped_before.get(id(stream), 0)

    @invariant()
    def nothing_is_stored_twice(self) -> None:
        assert len(self.store.steps) == len(set(self.store.steps))

    @invariant()
    def positions_are_in_order(self) -> None:
        for stream in self.streams:
            queue = stream.queue
            assert max(queue.head, queue.sent, queue.persisted) <= queue.added
            assert min(queue.on_disk, queue.size_bytes, queue.waiting) >= 0

    def teardown(self) -> None:
        try:
            self._ends_well()
        finally:
            owned_files.disown_all()
            self._exits.close()

    def _ends_well(self) -> None:
        """The store and the disk work from now on."""
        self.disk_works = True
        for stream in self.streams:
            while stream.unsent:
                stream.send(self.store)
        stored = set(self.store.steps)
        missing = [
            record.samples
            for record in self.records
            if record.values and record.step not in stored | self.crashed
        ]
        dropped = self.dropped_by_dead + sum(map(self._dropped, self.streams))
        # A tag counts for one; what was stored while its answer was lost may be taken for lost.
        assert sum(missing) <= dropped
        if not dropped and not self.crashed:
            assert DROPPED_TAG not in self.store.tags
            assert [each.step for each in self.records if each.values] == sorted(stored)
        assert list(self._folder.iterdir()) == []


DeliveryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestDelivery = DeliveryMachine.TestCase
