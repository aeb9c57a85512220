"""Whatever goes wrong, and in whatever order, each sample is stored once, in order, or counted."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fakes.scripted_store import LostAnswer, ScriptedStore, sample
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool, owned_files
from mlflow_sysmetrics.delivery.stream import DROPPED_TAG, Stream

ADDRESS = RunAddress("1", "http://somewhere", "system/")

lost_answers = st.tuples(st.just("lose"), st.integers(0, 3) | st.none())
actions = st.lists(
    st.sampled_from(
        [("add",), ("add",), ("add",), ("send",), ("fail",), ("persist",), ("move_to_disk",)]
    )
    | lost_answers,
    max_size=60,
)
disk_actions = st.lists(
    st.sampled_from([("add",), ("add",), ("send",), ("fail",), ("persist",), ("move_to_disk",)])
    | st.sampled_from([("thin",), ("disk", True), ("disk", False)])
    | lost_answers,
    max_size=60,
)


class Story:
    """A stream to which things happen, and the store that it is sent to."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.store = ScriptedStore()
        self.added = 0
        self.stream = Stream(ADDRESS, folder)
        self.store.limits.batch_points = 3  # points, and so samples, in a batch
        self._disk_works = True
        write = Spool._write

        def write_or_refuse(spool: Spool, records: Any, **options: Any) -> None:  # noqa: ANN401 - any JSON
            if not self._disk_works:
                raise OSError("No space left on device")
            write(spool, records, **options)

        patch.setattr(Spool, "_write", write_or_refuse)
        # Else most stories would end before a disk is asked again.
        patch.setattr("mlflow_sysmetrics.delivery.stream._DISK_PAUSE_MS", 0)

    def happens(self, what: str, how: Any = None) -> None:  # noqa: ANN401 - as the action has it
        if what == "add":
            self.stream.add(sample(self.added))
            self.added += 1
        elif what == "disk":
            self._disk_works = how
        elif what in {"persist", "move_to_disk", "thin"}:
            getattr(self.stream, what)()
        elif self.stream.unsent:
            self.store.script = []
            if what == "fail":
                self.store.script = [ConnectionError("refused")]
            elif what == "lose":
                reads = [lambda: None] * (self.stream.sent_to < self.stream._tried_to)
                self.store.script = [*reads, LostAnswer(how)]
            with suppress(ConnectionError):
                self.stream.send(self.store)

    def ends_well(self) -> None:
        """The store works from now on."""
        self.store.script = []
        while self.stream.unsent:
            self.stream.send(self.store)

    def is_cut_off(self) -> set[int]:
        """The process is killed, and a later one sends what it has left; the steps that it cost."""
        stream = self.stream
        cost = {each.step for each in stream._outbox.since(stream._spooled_to)}
        path = stream.spool_path
        stream.release()
        if path is not None:
            self.stream = Stream.of_spool(Spool.adopt(path), ADDRESS)
            self.ends_well()
        return cost


@given(actions)
def test_with_a_disk_every_sample_is_stored_once_and_in_order(happened: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        story = Story(Path(folder), patch)
        for action in happened:
            story.happens(*action)
        story.ends_well()

        assert story.store.steps == list(range(story.added))
        assert story.stream.dropped == 0
        assert story.store.tags == {}
        assert list(Path(folder).iterdir()) == []


@given(disk_actions)
@example([("add",), ("add",), ("move_to_disk",), ("disk", False), ("add",), ("add",), ("thin",)])
def test_what_is_lost_for_want_of_room_is_counted(happened: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        story = Story(Path(folder), patch)
        for action in happened:
            story.happens(*action)
        story.ends_well()

        steps = story.store.steps
        assert steps == sorted(set(steps))
        accounted = len(steps) + story.stream.dropped
        # What was stored by a request whose answer was lost may have been taken for lost.
        is_exact = not any(what == "lose" for what, *_ in happened)
        assert accounted == story.added if is_exact else accounted >= story.added
        told = story.store.tags.get(DROPPED_TAG, "0")
        assert int(told) == story.stream.dropped


@given(actions)
def test_a_process_that_is_killed_costs_what_was_in_memory_alone(happened: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        story = Story(Path(folder), patch)
        for action in happened:
            story.happens(*action)
        sent = set(story.store.steps)
        cost = story.is_cut_off()

        steps = story.store.steps
        assert steps == sorted(set(steps))
        assert set(range(story.added)) - set(steps) == cost - sent
        assert len(cost) <= 10  # seconds, of a sample each
    owned_files.disown_all()
