"""When the uploader calls its stores; in simulated time."""

from __future__ import annotations

import logging
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from fakes.scripted_store import ScriptedStore, sample, wide_sample
from fakes.simulation import Simulation, join_threads
from mlflow_sysmetrics.delivery.backlog import Backlog
from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy, RunGone, RunNotFound
from mlflow_sysmetrics.delivery.spool import Spool
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.uploader import Uploader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.sampling.sink import Record

pytestmark = pytest.mark.usefixtures("nothing_said")

THREAD = "mlflow-sysmetrics-uploader"
URI = "http://somewhere"


class Schedule:
    """An uploader in simulated time, and when the store of its run was called."""

    def __init__(self, mocker: MockerFixture, folder: Path) -> None:
        self.clock = Simulation()
        self.store = ScriptedStore()
        self.jitters = [1.0]  # the last one for all that follow
        self.uploader = Uploader(
            URI, Backlog(), lambda *_, **__: self.store, self.clock.now_s, self.jitter
        )
        self.sending: Channel
        self.called_s: list[float] = []
        self._folder = folder
        mocker.patch.object(self.uploader._condition, "wait", self.clock.wait)

    def jitter(self) -> float:
        return self.jitters.pop(0) if self.jitters[1:] else self.jitters[0]

    def answers(self, *answers: Exception | Callable[[], object] | None) -> None:
        """What the store answers; None for well, as it does after the last of these."""
        self.store.script = [partial(self._answer, answer) for answer in answers]
        self.store.script += [partial(self._answer, None)] * 1000

    def puts(self, *times_s: float) -> None:
        """Let a sample come at each of these times."""
        for step, time_s in enumerate(times_s):
            self.clock.at(time_s, partial(self.put, sample(step)))

    def run(
        self,
        until_s: float,
        tags: Callable[[], Mapping[str, str]] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Open the run at the time 0, let time pass until it ends, and on until all is sent."""
        if not self.store.script:
            self.answers()
        self.clock.at(until_s, self.end)
        stream = Stream(RunAddress("1", URI, "system/"), self._folder, tags)
        with self.uploader._condition:  # the thread begins when all is there
            self.sending = Channel(self.uploader, stream, on_end)
        join_threads(THREAD)

    def end(self) -> None:
        self.sending.end()

    def put(self, each: Record) -> None:
        self.sending.put(each)

    def _answer(self, answer: Exception | Callable[[], object] | None) -> None:
        self.called_s.append(self.clock.now_s())
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            answer()


@pytest.fixture
def schedule(mocker: MockerFixture, tmp_path: Path) -> Schedule:
    return Schedule(mocker, tmp_path)


REFUSED = ConnectionError("refused")


# When all is well


def test_samples_are_sent_together_once_an_interval_and_at_the_end(schedule: Schedule) -> None:
    schedule.puts(*range(35))

    schedule.run(until_s=34.5)

    assert schedule.called_s == [9.5, 19.5, 29.5, 34.5]
    assert [len(batch) for batch in schedule.store.batches] == [10, 10, 10, 5]
    assert schedule.store.steps == list(range(35))


def test_samples_as_rare_as_flushes_are_sent_as_they_come(schedule: Schedule) -> None:
    schedule.puts(10.0, 20.0, 30.0)

    schedule.run(until_s=35.0)

    assert schedule.called_s == [10.0, 20.0, 30.0]


def test_flushes_stay_on_their_grid_after_a_while_without_samples(schedule: Schedule) -> None:
    schedule.puts(1.0, 47.0, 48.0, 53.0)

    schedule.run(until_s=100.0)

    assert schedule.called_s == [9.5, 47.0, 49.5, 59.5]


def test_a_slow_store_is_not_asked_more_often_to_catch_up(schedule: Schedule) -> None:
    schedule.answers(lambda: schedule.clock.pass_time(23.0))
    schedule.puts(*range(60))

    schedule.run(until_s=60.0)

    assert schedule.called_s == [9.5, 39.5, 49.5, 59.5]
    assert schedule.store.steps == list(range(60))


@pytest.mark.parametrize(("interval_s", "answer_s"), [(1.0, 1.5), (0.2, 0.3), (1.0, 9.0)])
def test_a_store_that_answers_slower_than_samples_come_is_asked_once_an_interval(
    schedule: Schedule, interval_s: float, answer_s: float
) -> None:
    schedule.answers(*[lambda: schedule.clock.pass_time(answer_s)] * 100)
    schedule.puts(*(interval_s * number for number in range(round(45 / interval_s))))

    schedule.run(until_s=49.0)

    assert schedule.called_s[:4] == [9.5, 19.5, 29.5, 39.5]
    assert len(schedule.called_s) == 5
    assert schedule.store.steps == list(range(round(45 / interval_s)))


def test_a_flush_goes_on_until_all_is_sent_that_waited_when_it_began(schedule: Schedule) -> None:
    schedule.answers(*[lambda: schedule.clock.pass_time(1.0)] * 100)
    for step in range(30):
        wide = wide_sample(step, 400)
        schedule.clock.at(step, partial(schedule.put, wide))

    schedule.run(until_s=30.0)

    assert schedule.called_s[:6] == [9.5, 10.5, 11.5, 12.5, 13.5, 19.5]


def test_a_store_with_nothing_to_take_is_left_alone(schedule: Schedule) -> None:
    schedule.run(until_s=1000.0)

    assert schedule.called_s == []


def test_a_resumed_run_is_read_at_once(schedule: Schedule) -> None:
    schedule.run(until_s=1000.0, tags=lambda: {"sys.cpu": "EPYC"})

    assert schedule.called_s == [0.0, 0.0]
    assert schedule.store.calls == ["read", "log"]


# Pauses


def test_pauses_grow_while_a_store_fails(schedule: Schedule) -> None:
    schedule.answers(*[REFUSED] * 8)
    schedule.puts(0.0)

    schedule.run(until_s=1000.0)

    works_s = schedule.called_s[: schedule.store.calls.index("log", 8) + 1]
    pauses_s = [later - now for now, later in pairwise(works_s) if later > now]
    assert pauses_s == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert schedule.store.steps == [0]


def test_pauses_stop_growing_however_long_a_store_fails(schedule: Schedule) -> None:
    schedule.answers(*[REFUSED] * 1100)
    schedule.puts(0.0)

    schedule.run(until_s=1e6)

    assert schedule.called_s[1100] - schedule.called_s[1099] == 30.0
    assert schedule.store.steps == [0]


def test_pauses_grow_while_a_store_can_be_read_but_takes_nothing(
    schedule: Schedule, mocker: MockerFixture
) -> None:
    schedule.store.stored += sample(50).points(0)  # of others, so that a history is asked for
    tried_s: list[float] = []

    def fail(*_arguments: object) -> None:
        tried_s.append(schedule.clock.now_s())
        if len(tried_s) < 8:
            raise REFUSED

    mocker.patch.object(schedule.store, "log", fail)
    schedule.puts(0.0)

    schedule.run(until_s=1000.0)

    pauses_s = [later - now for now, later in pairwise(tried_s)]
    assert pauses_s == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_pauses_differ_so_that_not_all_runs_come_back_at_once(schedule: Schedule) -> None:
    schedule.jitters = [0.5, 0.75, 1.0]
    schedule.answers(*[REFUSED] * 3)
    schedule.puts(0.0)

    schedule.run(until_s=1000.0)

    assert schedule.called_s[:4] == [9.5, 10.0, 11.5, 15.5]


def test_the_end_of_a_run_does_not_wait_for_a_pause_to_pass(schedule: Schedule) -> None:
    schedule.answers(*[REFUSED] * 5)
    schedule.puts(0.0)

    schedule.run(until_s=30.0)

    assert schedule.called_s[:6] == [9.5, 10.5, 12.5, 16.5, 24.5, 30.0]
    assert schedule.store.steps == [0]


def test_after_a_success_pauses_begin_anew(schedule: Schedule) -> None:
    schedule.answers(REFUSED, REFUSED, None, None, REFUSED)
    schedule.puts(0.0, 20.0)

    schedule.run(until_s=1000.0)

    # Two failures, then what the store has is read and the rest logged; then one more.
    assert schedule.called_s == [9.5, 10.5, 12.5, 12.5, 20.0, 21.0, 21.0]
    assert schedule.store.steps == [0, 1]


@pytest.mark.parametrize(("retry_after_s", "next_s"), [(0.2, 10.5), (45.0, 54.5), (600.0, 609.5)])
def test_a_store_is_left_alone_for_as_long_as_it_asks(
    schedule: Schedule, retry_after_s: float, next_s: float
) -> None:
    schedule.answers(Busy("too many requests", retry_after_s))
    schedule.puts(0.0, 11.0)

    schedule.run(until_s=1000.0)

    assert schedule.called_s[:2] == [9.5, next_s]
    assert schedule.store.steps == [0, 1]


def test_a_store_is_left_alone_also_at_the_end(schedule: Schedule) -> None:
    schedule.answers(Busy("too many requests", 45.0))
    schedule.puts(0.0)

    schedule.run(until_s=12.0)

    assert schedule.called_s[:2] == [9.5, 54.5]
    assert schedule.store.steps == [0]


def test_a_store_that_asks_to_be_left_alone_is_so_by_all_runs(schedule: Schedule) -> None:
    schedule.answers(*[Busy("too many requests", 20.0)] * 3)
    schedule.puts(0.0)
    others = [Stream(RunAddress(run_id, URI, "system/")) for run_id in "234"]

    def open_others() -> None:
        for stream in others:
            sending = Channel(schedule.uploader, stream)
            sending.put(sample(0))
            sending.end()

    schedule.clock.at(8.0, open_others)
    schedule.run(until_s=9.0)

    times_s = sorted(set(schedule.called_s))
    assert times_s[:4] == [8.0, 28.0, 48.0, 68.0]
    assert schedule.called_s[:4] == times_s[:4]
    assert not any(stream.unsent for stream in others)


def test_a_run_is_sent_between_the_batches_of_one_that_has_ended(schedule: Schedule) -> None:
    schedule.answers(*[lambda: schedule.clock.pass_time(1.0)] * 100)
    schedule.puts(0.0)
    ended = Stream(RunAddress("2", URI, "system/"))

    def open_ended() -> None:
        sending = Channel(schedule.uploader, ended)
        for step in range(1000, 1060):
            sending.put(wide_sample(step, 1000))
        sending.end()

    schedule.clock.at(1.0, open_ended)
    schedule.run(until_s=40.0)

    first = [batch[0].step for batch in schedule.store.batches]
    assert schedule.called_s[first.index(0)] <= 9.5 + 2.0


def test_what_somebody_waits_for_is_sent_first(schedule: Schedule) -> None:
    schedule.answers(*[lambda: schedule.clock.pass_time(1.0)] * 100)
    schedule.puts(*[0.0] * 5)
    ended = Stream(RunAddress("2", URI, "system/"))

    def open_ended() -> None:
        sending = Channel(schedule.uploader, ended)
        for step in range(1000, 1003):
            sending.put(wide_sample(step, 1000))
        sending.task.is_awaited = True
        sending.end()

    schedule.clock.at(9.5, open_ended)
    schedule.run(until_s=9.5)

    assert [batch[0].step for batch in schedule.store.batches] == [1000, 1001, 1002, 0]


def test_who_is_not_let_in_tries_again_each_minute_and_at_the_end(schedule: Schedule) -> None:
    schedule.answers(*[AccessDenied("the token has expired")] * 3)
    schedule.puts(0.0)

    schedule.run(until_s=130.0)

    assert schedule.called_s[:4] == [9.5, 69.5, 129.5, 130.0]
    assert schedule.store.steps == [0]


# What is said


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "mlflow_sysmetrics")
    return caplog


def test_one_failure_is_nothing_to_tell(schedule: Schedule, said: pytest.LogCaptureFixture) -> None:
    schedule.answers(REFUSED)
    schedule.puts(0.0)

    schedule.run(until_s=1000.0)

    assert said.messages == []


@pytest.mark.parametrize("failures", [2, 3, 20])
def test_an_outage_and_its_end_are_told_once(
    schedule: Schedule, said: pytest.LogCaptureFixture, failures: int
) -> None:
    schedule.answers(*[REFUSED] * failures)
    schedule.puts(*range(0, 300, 10))

    schedule.run(until_s=1000.0)

    outage, end = said.messages
    assert "kept on disk" in outage
    assert outage.endswith("refused")
    assert "again" in end
    assert [record.levelname for record in said.records] == ["WARNING", "INFO"]
    assert schedule.store.steps == list(range(30))


def test_who_is_not_let_in_is_told_at_once_and_once(
    schedule: Schedule, said: pytest.LogCaptureFixture
) -> None:
    schedule.answers(*[AccessDenied("the token has expired")] * 5)
    schedule.puts(0.0)

    schedule.run(until_s=200.0)

    denied = [record for record in said.records if record.levelname == "WARNING"]
    assert len(denied) == 1
    assert denied[0].getMessage().endswith("the token has expired")


def test_a_run_that_is_not_found_is_kept_asked_for_each_minute_and_told_once(
    schedule: Schedule, said: pytest.LogCaptureFixture
) -> None:
    schedule.answers(*[RunNotFound("no such run")] * 3)
    schedule.puts(*range(0, 300, 10))

    schedule.run(until_s=1000.0)

    assert schedule.called_s[:4] == [9.5, 69.5, 129.5, 189.5]
    assert schedule.store.steps == list(range(30))
    (message,) = said.messages
    assert "its metrics are kept in /" in message
    assert message.endswith("no such run")


def test_a_run_that_is_not_found_does_not_hide_the_end_of_an_outage(
    schedule: Schedule, said: pytest.LogCaptureFixture
) -> None:
    schedule.answers(REFUSED, REFUSED, RunNotFound("no such run"))
    schedule.puts(0.0)

    schedule.run(until_s=1000.0)

    assert "again" in said.messages[-1]
    assert schedule.store.steps == [0]


def test_without_a_disk_it_is_said_that_samples_wait_in_memory(
    schedule: Schedule, said: pytest.LogCaptureFixture, mocker: MockerFixture
) -> None:
    mocker.patch.object(Spool, "create", side_effect=OSError("No space left on device"))
    schedule.answers(REFUSED, REFUSED)
    schedule.puts(0.0)

    schedule.run(until_s=100.0)

    assert any("kept in memory" in message for message in said.messages)


def test_after_a_refusal_nothing_more_is_sent_and_one_warning_tells_it(
    schedule: Schedule, said: pytest.LogCaptureFixture
) -> None:
    schedule.answers(RunGone("the run is deleted"))
    schedule.puts(*[0.0] * 12, 15.0)

    schedule.run(until_s=1000.0)

    assert schedule.called_s == [9.5]
    assert schedule.store.stored == []
    assert schedule.sending.task.stream.unsent == 0
    (message,) = said.messages
    assert message.endswith("12 samples are lost: the run is deleted")


# Runs that others may end


def status_checks(schedule: Schedule) -> list[float]:
    pairs = zip(schedule.called_s, schedule.store.calls, strict=True)
    return [time_s for time_s, call in pairs if call == "read"]


def test_a_run_that_others_may_end_is_asked_about_each_minute(schedule: Schedule) -> None:
    schedule.run(until_s=250.0, on_end=lambda: None)

    assert status_checks(schedule) == schedule.called_s == [60.0, 120.0, 180.0, 240.0]


def test_a_run_that_nobody_else_ends_is_never_asked_about(schedule: Schedule) -> None:
    schedule.puts(*range(0, 300, 10))

    schedule.run(until_s=300.0)

    assert status_checks(schedule) == []


@pytest.mark.parametrize("interval_s", [0.5, 1.0, 7.0, 10.0, 60.0])
def test_the_end_of_a_run_is_noticed_within_some_minute_and_once(
    schedule: Schedule, mocker: MockerFixture, interval_s: float
) -> None:
    ended_s: list[float] = []

    def end() -> None:
        ended_s.append(schedule.clock.now_s())

    schedule.puts(*(interval_s * number for number in range(1, int(500 / interval_s))))
    schedule.clock.at(100.0, lambda: setattr(schedule.store, "has_ended", True))

    schedule.run(until_s=500.0, on_end=end)

    assert len(ended_s) == 1
    assert 100.0 <= ended_s[0] <= 100.0 + 60.0 + 10.0
    assert len(status_checks(schedule)) <= 3


@pytest.mark.parametrize(("interval_s", "answer_s"), [(0.2, 0.3), (1.0, 1.5), (1.0, 12.0)])
def test_the_end_of_a_run_is_noticed_where_something_always_waits(
    schedule: Schedule, interval_s: float, answer_s: float
) -> None:
    ended_s: list[float] = []
    schedule.answers(*[lambda: schedule.clock.pass_time(answer_s)] * 1000)
    schedule.puts(*(interval_s * number for number in range(1, round(300 / interval_s))))
    schedule.clock.at(70.0, lambda: setattr(schedule.store, "has_ended", True))

    schedule.run(until_s=300.0, on_end=lambda: ended_s.append(schedule.clock.now_s()))

    assert len(ended_s) == 1
    assert 70.0 <= ended_s[0] <= 70.0 + 2 * 60.0


def test_who_ends_the_run_may_do_so_from_the_thread_that_noticed(schedule: Schedule) -> None:
    schedule.store.has_ended = True

    schedule.run(until_s=1000.0, on_end=schedule.end)

    assert schedule.called_s == [60.0]


def test_a_status_that_cannot_be_read_is_asked_for_again(schedule: Schedule) -> None:
    schedule.answers(REFUSED, REFUSED)

    schedule.run(until_s=130.0, on_end=lambda: None)

    assert schedule.called_s[0] == 60.0
    assert len(schedule.called_s) >= 2
    assert schedule.sending.task.stream.unsent == 0


def test_a_run_that_is_gone_is_asked_about_no_more(schedule: Schedule) -> None:
    schedule.answers(RunGone("no such run"))

    schedule.run(until_s=1000.0, on_end=lambda: None)

    assert schedule.called_s == [60.0]
