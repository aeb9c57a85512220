"""When the uploader calls its stores; in simulated time."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from fakes.scripted_store import ScriptedStore, points, stream_to
from fakes.simulation import Simulation, join_threads
from mlflow_sysmetrics.delivery import uploader as uploader_module
from mlflow_sysmetrics.delivery.tracking import Refused
from mlflow_sysmetrics.delivery.uploader import Stream, Uploader

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

THREAD = "mlflow-sysmetrics-uploader"


class Schedule:
    """An uploader in simulated time, and when its store was called."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.clock = Simulation()
        self.uploader = Uploader()
        self.called_s: list[float] = []
        mocker.patch.object(uploader_module, "time", self.clock)
        mocker.patch("random.uniform", return_value=1.0)
        mocker.patch.object(self.uploader._condition, "wait", self.clock.wait)

    def note_time(self) -> None:
        self.called_s.append(self.clock.now_s())

    def fail(self) -> None:
        self.note_time()
        raise ConnectionError("refused")

    def run(self, stream: Stream, until_s: float) -> None:
        self.clock.at(until_s, lambda: self.uploader.close(stream, timeout_s=0.0))
        self.uploader.open(stream)
        join_threads(THREAD)


@pytest.fixture
def schedule(mocker: MockerFixture) -> Schedule:
    return Schedule(mocker)


def test_points_are_sent_together_every_ten_seconds_and_at_the_end(schedule: Schedule) -> None:
    store = ScriptedStore(*[schedule.note_time] * 3)
    stream = stream_to(store)
    for second in range(25):
        schedule.clock.at(second, partial(schedule.uploader.put, stream, points([second])))

    schedule.run(stream, until_s=24.5)

    assert schedule.called_s == [9.5, 19.0, 24.5]
    assert [len(batch) for batch in store.batches] == [10, 10, 5]
    assert store.steps == list(range(25))


def test_a_store_with_nothing_to_take_is_left_alone(schedule: Schedule) -> None:
    store = ScriptedStore(schedule.note_time)

    schedule.run(stream_to(store), until_s=1000.0)

    assert schedule.called_s == []


def test_a_resumed_run_is_read_at_once(schedule: Schedule) -> None:
    store = ScriptedStore(schedule.note_time)

    schedule.run(stream_to(store, tags=dict), until_s=1000.0)

    assert schedule.called_s == [0.0]


def test_pauses_grow_while_a_store_fails(schedule: Schedule) -> None:
    store = ScriptedStore(*[schedule.fail] * 8, schedule.note_time)
    stream = stream_to(store)
    schedule.clock.at(0.0, lambda: schedule.uploader.put(stream, points([0])))

    schedule.run(stream, until_s=1000.0)

    pauses_s = [later - now for now, later in pairwise(schedule.called_s)]
    assert pauses_s == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert store.steps == [0]


def test_the_end_of_a_run_does_not_wait_for_a_pause_to_pass(schedule: Schedule) -> None:
    store = ScriptedStore(*[schedule.fail] * 5, schedule.note_time)
    stream = stream_to(store)
    schedule.clock.at(0.0, lambda: schedule.uploader.put(stream, points([0])))

    schedule.run(stream, until_s=30.0)

    assert schedule.called_s == [9.5, 10.5, 12.5, 16.5, 24.5, 30.0]
    assert store.steps == [0]


def test_after_a_refusal_nothing_more_is_sent_and_one_warning_tells_it(
    schedule: Schedule, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        schedule.note_time()
        raise Refused("the run is deleted")

    store = ScriptedStore(refuse)
    stream = stream_to(store)
    schedule.clock.at(0.0, lambda: schedule.uploader.put(stream, points(range(12))))
    schedule.clock.at(15.0, lambda: schedule.uploader.put(stream, points([12])))

    schedule.run(stream, until_s=1000.0)

    assert schedule.called_s == [9.5]
    assert (store.batches, len(stream.outbox)) == ([], 0)
    (record,) = caplog.records
    assert record.getMessage().endswith("12 points are lost: the run is deleted")


def test_after_a_success_pauses_begin_anew(schedule: Schedule) -> None:
    store = ScriptedStore(
        schedule.fail, schedule.fail, schedule.note_time, schedule.fail, schedule.note_time
    )
    stream = stream_to(store)
    schedule.clock.at(0.0, lambda: schedule.uploader.put(stream, points([0])))
    schedule.clock.at(20.0, lambda: schedule.uploader.put(stream, points([1])))

    schedule.run(stream, until_s=1000.0)

    assert schedule.called_s == [9.5, 10.5, 12.5, 22.0, 23.0]
    assert store.steps == [0, 1]
