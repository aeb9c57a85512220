from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from fakes.scripted_store import LostAnswer, ScriptedStore, sample, wide_sample
from fakes.streams import ADDRESS, add, left_by, send_all
from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy, InvalidPoints, RunGone
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.sampling.sink import Point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("nothing_said")


@pytest.fixture
def resumed(tmp_path: Path) -> Stream:
    """The samples of a run that existed before."""
    return Stream(ADDRESS, tmp_path, lambda: {"sys.cpu": "EPYC", "sys.os": "Linux"})


# From memory


def test_what_waits_is_sent_and_waits_no_more(stream: Stream) -> None:
    store = ScriptedStore()
    add(stream, 0, 1)
    assert stream.unsent == 2
    assert stream.queue.size_bytes > 0

    assert stream.send(store) == 2
    assert store.stored == [Point("key", float(n), sample(n).timestamp_ms, n) for n in (0, 1)]
    assert (stream.unsent, stream.queue.size_bytes, stream.spool_path) == (0, 0, None)


def test_what_comes_while_a_batch_is_sent_waits_for_the_next(stream: Stream) -> None:
    store = ScriptedStore(lambda: add(stream, 2))
    add(stream, 0, 1)

    assert stream.send(store) == 2
    assert stream.unsent == 1
    assert stream.send(store) == 1
    assert store.steps == [0, 1, 2]


def test_a_batch_that_fails_waits_on(stream: Stream) -> None:
    store = ScriptedStore(AccessDenied("not you"))
    add(stream, 0, 1)

    with pytest.raises(AccessDenied):
        stream.send(store)

    assert stream.unsent == 2
    assert store.stored == []


# What was stored although the attempt failed


@pytest.mark.parametrize("stored", [0, 1, 2, 3, None])
def test_what_a_lost_answer_stored_is_not_stored_twice(stream: Stream, stored: int | None) -> None:
    store = ScriptedStore(LostAnswer(stored))
    for step in range(2):
        stream.queue.add(sample(step, a=1.0, b=2.0))
    with pytest.raises(ConnectionError):
        stream.send(store)
    add(stream, 2)

    send_all(stream, store)

    assert sorted((point.step, point.key) for point in store.stored) == [
        (0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "key"),
    ]  # fmt: skip


def test_a_store_is_asked_what_it_has_only_after_a_failure(stream: Stream) -> None:
    store = ScriptedStore(LostAnswer())
    add(stream, 0)
    send_all(stream, store)
    add(stream, 1)
    send_all(stream, store)

    assert store.calls == ["log", "read", "log"]


def test_nothing_is_asked_of_a_history_that_the_last_point_tells(stream: Stream) -> None:
    store = ScriptedStore(LostAnswer(5))
    add(stream, *range(9))

    send_all(stream, store)

    assert store.calls == ["log", "read", "log"]
    assert store.steps == list(range(9))


def test_a_later_opening_of_the_run_hides_nothing(stream: Stream) -> None:
    """Its points have the highest steps and times, so the history must tell what is stored."""
    store = ScriptedStore(LostAnswer(1))
    add(stream, 0, 1, 2)
    with pytest.raises(ConnectionError):
        stream.send(store)
    store.stored += sample(50).points(0)

    send_all(stream, store)

    assert sorted(store.steps) == [0, 1, 2, 50]
    assert "timestamps" in store.calls


def test_a_store_that_fails_again_and_again_gets_everything_once(stream: Stream) -> None:
    store = ScriptedStore(
        LostAnswer(3), ConnectionError("refused"), lambda: None, LostAnswer(2), lambda: None,
        ConnectionError("refused"),
    )  # fmt: skip
    add(stream, *range(10))

    send_all(stream, store)

    assert store.steps == list(range(10))


def wide(steps: Iterable[int]) -> list[Point]:
    return [point for step in steps for point in wide_sample(step, 20).points(0)]


@pytest.fixture
def unsure(stream: Stream) -> Stream:
    """The store may have what was sent, and others have logged to the run since."""
    for step in range(3):
        stream.queue.add(wide_sample(step, 20))
    with pytest.raises(ConnectionError):
        stream.send(ScriptedStore(LostAnswer(0)))
    return stream


def test_histories_are_asked_for_one_at_a_time(unsure: Stream) -> None:
    store = ScriptedStore(stored=wide([0, 50]))

    while unsure.unsent:
        asked = store.calls.count("timestamps")
        unsure.send(store)
        assert store.calls.count("timestamps") <= asked + 1

    assert store.calls == ["read", *["timestamps"] * 20, "log"]
    assert sorted(set(store.steps)) == [0, 1, 2, 50]
    assert len(store.stored) == 20 * 4


def test_histories_that_are_known_are_not_asked_for_again_where_the_store_is_busy(
    unsure: Stream,
) -> None:
    answers: list[Busy | Callable[[], None]] = [lambda: None, Busy("too many requests", 1.0)]
    store = ScriptedStore(lambda: None, *answers * 25, stored=wide([0, 50]))

    while unsure.unsent:
        with suppress(Busy):
            unsure.send(store)

    assert store.calls.count("read") == 1
    assert store.calls.count("timestamps") <= 20 * 2
    assert len(store.stored) == 20 * 4


def test_what_is_known_does_not_outlast_an_attempt(unsure: Stream) -> None:
    answers = [lambda: None] * 21
    store = ScriptedStore(*answers, LostAnswer(25), stored=wide([0, 50]))

    send_all(unsure, store)

    assert len(store.stored) == 20 * 4


# Points that a store does not take


def test_a_metric_that_is_not_taken_costs_no_other(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    store = ScriptedStore()
    store.refused_keys = {"bad"}
    for step in range(3):
        stream.queue.add(sample(step, first=1.0, bad=2.0, last=3.0))

    send_all(stream, store)

    assert [(point.step, point.key) for point in store.stored] == [
        (step, key) for step in range(3) for key in ("first", "last")
    ]
    (message,) = caplog.messages
    assert message.endswith("the store does not take the metric bad: invalid metric")


def test_a_metric_that_is_not_taken_is_not_sent_again(stream: Stream) -> None:
    store = ScriptedStore()
    store.refused_keys = {"bad"}
    stream.queue.add(sample(0, good=1.0, bad=2.0))
    send_all(stream, store)
    store.calls.clear()

    stream.queue.add(sample(1, good=1.0, bad=2.0))
    send_all(stream, store)

    assert store.calls == ["log"]
    assert [(point.key, point.step) for point in store.stored] == [("good", 0), ("good", 1)]


def test_a_metric_that_is_not_taken_is_found_in_few_requests(stream: Stream) -> None:
    store = ScriptedStore()
    store.refused_keys = {"key_7"}
    for step in range(20):
        stream.queue.add(wide_sample(step, 50))

    send_all(stream, store)

    assert len(store.stored) == 20 * 49
    assert len(store.calls) < 50


def test_a_store_that_takes_less_at_once_gets_less(stream: Stream) -> None:
    store = ScriptedStore()
    store.max_points = 300
    for step in range(20):
        stream.queue.add(wide_sample(step, 50))
    send_all(stream, store)
    assert [len(batch) for batch in store.batches] == [250] * 4
    asked = len(store.calls)

    for step in range(20, 40):
        stream.queue.add(wide_sample(step, 50))
    send_all(stream, store)

    assert len(store.stored) == 40 * 50
    assert len(store.calls) == asked + 4  # it has learnt


def test_a_store_that_calls_a_single_point_too_large_is_asked_again_later(stream: Stream) -> None:
    store = ScriptedStore()
    store.max_points = 0
    stream.queue.add(wide_sample(0, 50))
    with pytest.raises(InvalidPoints):
        stream.send(store)
    assert stream.unsent == 1
    store.max_points = None

    send_all(stream, store)

    assert [len(batch) for batch in store.batches] == [50]


def test_a_store_that_rejects_everything_for_a_while_costs_no_metric(stream: Stream) -> None:
    store = ScriptedStore()
    stream.queue.add(wide_sample(0, 5))
    store.refused_keys = set(wide_sample(0, 5).values)
    with pytest.raises(InvalidPoints):
        stream.send(store)
    assert stream.unsent == 1
    store.refused_keys = set()

    send_all(stream, store)

    assert len(store.stored) == 5


def test_a_store_that_rejects_everything_is_not_asked_about_each_metric(stream: Stream) -> None:
    store = ScriptedStore()
    for step in range(3):
        stream.queue.add(wide_sample(step, 100))
    store.refused_keys = set(wide_sample(0, 100).values)

    with pytest.raises(InvalidPoints):
        stream.send(store)

    assert len(store.calls) < 30


def test_a_deleted_run_is_refused(stream: Stream) -> None:
    store = ScriptedStore()
    store.is_deleted = True
    add(stream, 0, 1, 2)

    with pytest.raises(RunGone, match="deleted"):
        stream.send(store)

    assert stream.forget() == 3
    assert stream.unsent == 0


# Resumed runs


def test_a_resumed_runs_steps_go_on_after_the_last(resumed: Stream) -> None:
    store = ScriptedStore(stored=[*sample(12).points(0), *sample(30, other=1.0).points(0)])
    assert not resumed.is_known
    add(resumed, 40, 41)

    resumed.send(store)

    assert resumed.is_known
    assert store.steps == [12, 30, 71, 72]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"sys.cpu": "EPYC", "sys.os": "Linux"}),
        ({"mlflow.user": "me"}, {"mlflow.user": "me", "sys.cpu": "EPYC", "sys.os": "Linux"}),
        ({"sys.cpu": "of its first half"}, {"sys.cpu": "of its first half"}),
    ],
)
def test_a_resumed_run_gets_tags_if_it_has_none_of_ours(
    resumed: Stream, before: dict[str, str], after: dict[str, str]
) -> None:
    store = ScriptedStore(tags=before)

    resumed.send(store)

    assert store.tags == after


def test_a_resumed_run_that_cannot_be_asked_is_asked_again(resumed: Stream) -> None:
    store = ScriptedStore(ConnectionError("refused"), stored=sample(12).points(0))
    add(resumed, 40)

    send_all(resumed, store)

    assert store.steps == [12, 53]
    assert store.tags == {"sys.cpu": "EPYC", "sys.os": "Linux"}


def test_a_resumed_run_that_never_could_be_asked_goes_on_later(resumed: Stream) -> None:
    add(resumed, 40, 41)
    with pytest.raises(ConnectionError):
        resumed.send(ScriptedStore(ConnectionError("refused")))
    resumed.persist()

    store = ScriptedStore(stored=sample(12).points(0))
    later = left_by(resumed)
    assert not later.is_known
    send_all(later, store)

    assert store.steps == [12, 53, 54]
    assert store.tags == {"sys.cpu": "EPYC", "sys.os": "Linux"}


def test_an_upload_that_is_interrupted_and_repeated_keeps_the_steps(resumed: Stream) -> None:
    add(resumed, *range(40, 46))
    resumed.persist()
    store = ScriptedStore(stored=sample(12).points(0))
    store.limits.batch_points = 2
    stream = left_by(resumed)
    store.script = [*[lambda: None] * 4, LostAnswer(1)]  # read twice, two batches, half of one
    stream.send(store)
    stream.send(store)
    with pytest.raises(ConnectionError):
        stream.send(store)
    assert store.steps == [12, 53, 54, 55, 56, 57]

    again = left_by(stream)
    send_all(again, store)

    assert store.steps == [12, 53, 54, 55, 56, 57, 58]
    assert again.spool_path is None
