"""What the sender does next, as a table: no thread, no clock, no store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fakes.scripted_store import sample
from fakes.streams import ADDRESS
from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy, RunGone, RunNotFound
from mlflow_sysmetrics.delivery.schedule import Action, Do, Schedule, Sequel, Task
from mlflow_sysmetrics.delivery.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REFUSED = ConnectionError("refused")


def opened(
    schedule: Schedule,
    waiting: int = 0,
    tags: Callable[[], Mapping[str, str]] | None = None,
    *,
    is_leftover: bool = False,
) -> Task:
    """A run that opens at the time 0, with what waits of it."""
    stream = Stream(ADDRESS, None, tags)
    for step in range(waiting):
        stream.queue.add(sample(step))
    return schedule.add(stream, 0.0, is_leftover=is_leftover)


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(lambda: 1.0)


@pytest.mark.parametrize(
    ("waiting", "closing", "now_s", "then"),
    [
        (0, False, 0.0, (Do.WAIT, None)),  # until something comes
        (1, False, 0.0, (Do.WAIT, 9.5)),  # with what comes until then
        (1, False, 9.5, (Do.SEND, None)),
        (1, True, 0.1, (Do.SEND, None)),
        (0, True, 0.1, (Do.WAIT, None)),
    ],
)
def test_what_waits_is_sent_once_an_interval_and_at_the_end(
    schedule: Schedule, waiting: int, now_s: float, then: tuple[Do, float | None], *, closing: bool
) -> None:
    task = opened(schedule, waiting)
    if closing:
        schedule.end(task)

    action = schedule.next_action(now_s)

    assert (action.what, action.until_s) == then


@pytest.mark.parametrize(
    ("outcome", "sequel", "next_s"),
    [
        (REFUSED, Sequel.BACK_OFF, 101.0),
        (AccessDenied("not you"), Sequel.BACK_OFF, 160.0),
        (RunNotFound("no such run"), Sequel.BACK_OFF, 160.0),
        (Busy("later", 7.0), Sequel.BACK_OFF, 107.0),
        (RunGone("deleted"), Sequel.ABANDON, None),
        (0, Sequel.NOTHING, 100.0),  # it was asked what it has
    ],
    ids=repr,
)
def test_what_follows_from_an_answer(
    schedule: Schedule, outcome: int | Exception, sequel: Sequel, next_s: float | None
) -> None:
    task = opened(schedule, 1)
    schedule.next_action(100.0)

    assert schedule.after(task, outcome, 100.0) is sequel
    action = schedule.next_action(100.0)

    assert action == (Action(Do.SEND, task) if next_s == 100.0 else Action(Do.WAIT, None, next_s))


def test_pauses_grow_to_half_a_minute_and_begin_anew_after_a_success(schedule: Schedule) -> None:
    task = opened(schedule, 2)
    pauses_s = []
    for _ in range(7):
        schedule.after(task, REFUSED, 100.0)
        pauses_s.append(task.backoff.not_before_s - 100.0)
    schedule.after(task, 1, 100.0)
    schedule.after(task, REFUSED, 100.0)

    assert pauses_s == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert task.backoff.not_before_s == 101.0


def test_who_is_waited_for_comes_first_then_in_turns_and_leftovers_last(schedule: Schedule) -> None:
    leftover = opened(schedule, 1, is_leftover=True)
    one, two, awaited = (opened(schedule, 1) for _ in range(3))
    awaited.is_awaited = True
    names = {leftover: "leftover", one: "one", two: "two", awaited: "awaited"}

    turns = []
    for _ in range(3):
        task = schedule.next_action(50.0).task
        assert task is not None
        turns.append(names[task])
        task.is_awaited = False
        awaited.is_gone = True

    assert turns == ["awaited", "one", "two"]
    one.is_gone = two.is_gone = True
    assert schedule.next_action(50.0).task is leftover


def test_leftovers_are_looked_for_once_the_store_has_taken_something(schedule: Schedule) -> None:
    task = opened(schedule, 1)
    assert not schedule.finds_leftovers
    batch = task.stream.queue.peek(10)
    task.stream.queue.ack(batch)
    schedule.after(task, 1, 100.0)

    assert schedule.next_action(100.0).what is Do.FIND_LEFTOVER


@pytest.mark.parametrize(
    ("failures", "goes_on"), [([AccessDenied("no")], True), ([REFUSED] * 5, False)], ids=str
)
def test_a_leftover_that_cannot_be_sent_is_left_to_a_later_process(
    schedule: Schedule, failures: list[Exception], *, goes_on: bool
) -> None:
    leftover = opened(schedule, 1, is_leftover=True)

    *before, last = [schedule.after(leftover, each, 100.0) for each in failures]

    assert set(before) <= {Sequel.NOTHING}
    assert last is Sequel.RELEASE
    assert schedule.tasks == []
    assert schedule.finds_leftovers is goes_on


def test_an_outage_is_said_once_and_its_end_too(schedule: Schedule) -> None:
    tasks = [opened(schedule, 1), opened(schedule, 1)]
    said = []
    for _ in range(3):
        for task in tasks:
            schedule.after(task, REFUSED, 100.0)
            said.append(schedule.reports_outage(task, REFUSED))
    assert said == [False, False, True, False, False, False]

    ended = []
    for task in tasks:
        schedule.after(task, 1, 100.0)
        ended.append(schedule.reports_recovery())
    assert ended == [False, True]
    assert not schedule.reports_recovery()
