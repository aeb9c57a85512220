from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fakes.logging_handlers import FailingHandler
from fakes.scripted_store import LostAnswer, ScriptedStore, sample, wide_sample
from fakes.simulation import LONG_S, join_threads
from fakes.uploader_bench import UPLOADER_THREAD, Gate, closed
from mlflow_sysmetrics.delivery import schedule as schedule_module
from mlflow_sysmetrics.delivery import uploader as uploader_module
from mlflow_sysmetrics.delivery.backlog import Backlog
from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy, RunGone
from mlflow_sysmetrics.delivery.uploader import Uploader

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from fakes.uploader_bench import UploaderBench


# Sending


def test_what_waits_is_sent_when_the_stream_closes(bench: UploaderBench) -> None:
    store = ScriptedStore()
    sending = bench.open(store)
    bench.put(sending, 0, 1)

    assert closed(sending, LONG_S) == 0
    assert [[point.step for point in batch] for batch in store.batches] == [[0, 1]]
    assert bench.files == []


def test_batches_are_no_longer_than_mlflow_allows_and_in_order(bench: UploaderBench) -> None:
    store = ScriptedStore()
    sending = bench.open(store)
    for step in range(9):
        sending.put(wide_sample(step, 300))

    closed(sending, LONG_S)

    assert [len(batch) for batch in store.batches] == [900, 900, 900]
    assert store.steps == [step for step in range(9) for _ in range(300)]


def test_a_new_run_is_not_read(bench: UploaderBench) -> None:
    store = ScriptedStore(stored=sample(8).points(0))
    sending = bench.open(store)
    bench.put(sending, 0)

    closed(sending, LONG_S)

    assert store.calls == ["log"]
    assert store.steps == [8, 0]


def test_a_resumed_run_goes_on_with_its_steps_and_gets_its_tags(bench: UploaderBench) -> None:
    store = ScriptedStore(stored=sample(39).points(0))
    sending = bench.open(store, tags=lambda: {"sys.cpu": "EPYC"})
    bench.put(sending, 100, 101)

    closed(sending, LONG_S)

    assert store.tags == {"sys.cpu": "EPYC"}
    assert store.steps == [39, 140, 141]


def test_a_resumed_run_gets_its_tags_also_if_nothing_is_logged(bench: UploaderBench) -> None:
    store = ScriptedStore()
    sending = bench.open(store, tags=lambda: {"sys.cpu": "EPYC"})

    closed(sending, LONG_S)

    assert store.tags == {"sys.cpu": "EPYC"}
    assert store.stored == []


def test_runs_are_sent_each_to_its_own(bench: UploaderBench) -> None:
    stores = {run_id: ScriptedStore() for run_id in "12"}
    sendings = [bench.open(store, run_id) for run_id, store in stores.items()]
    for step, sending in enumerate(sendings):
        bench.put(sending, step)

    for sending in sendings:
        closed(sending, LONG_S)

    assert [store.steps for store in stores.values()] == [[0], [1]]


def test_after_the_last_stream_a_new_one_has_a_new_thread(bench: UploaderBench) -> None:
    for run_id in "12":
        store = ScriptedStore()
        sending = bench.open(store, run_id)
        bench.put(sending, 0)
        assert closed(sending, LONG_S) == 0
        join_threads(UPLOADER_THREAD)
        assert store.steps == [0]


# Failures


def test_what_could_not_be_sent_is_sent_again_in_order(
    bench: UploaderBench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlflow_sysmetrics")
    store = ScriptedStore(ConnectionError("refused"), TimeoutError("no answer"))
    sending = bench.open(store)
    bench.put(sending, *range(1500))

    assert closed(sending, LONG_S) == 0
    join_threads(UPLOADER_THREAD)
    assert store.steps == list(range(1500))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "no answer" in caplog.text


@pytest.mark.parametrize("stored", [0, 1, 400, 999, None])
def test_an_attempt_that_seemed_to_fail_stores_nothing_twice(
    bench: UploaderBench, stored: int | None
) -> None:
    store = ScriptedStore(lambda: None, LostAnswer(stored))
    sending = bench.open(store)
    bench.put(sending, *range(2500))

    assert closed(sending, LONG_S) == 0
    assert store.steps == list(range(2500))


def test_a_failure_while_a_failure_is_dealt_with_does_not_end_delivery(
    bench: UploaderBench, mocker: MockerFixture
) -> None:
    store = ScriptedStore(ConnectionError("refused"))
    sending = bench.open(store)
    bench.put(sending, 0)
    mocker.patch.object(
        bench.uploader, "_follow_failure", side_effect=ArithmeticError("unforeseen")
    )

    assert closed(sending, LONG_S) == 0
    assert store.steps == [0]


def test_a_thread_that_has_ended_unforeseen_is_started_anew(
    bench: UploaderBench, mocker: MockerFixture
) -> None:
    dies = mocker.patch.object(bench.uploader, "_wait_for_action", return_value=None)
    first = bench.open(ScriptedStore(), "1")
    join_threads(UPLOADER_THREAD)
    mocker.stop(dies)
    store = ScriptedStore()

    sending = bench.open(store, "2")
    bench.put(sending, 0)

    assert closed(sending, LONG_S) == 0
    assert store.steps == [0]
    first.end()


def test_a_handler_of_the_log_that_fails_does_not_end_delivery(
    bench: UploaderBench, request: pytest.FixtureRequest
) -> None:
    handler = FailingHandler.installed(request)
    store = ScriptedStore(ConnectionError("refused"), ConnectionError("refused"))
    sending = bench.open(store)
    bench.put(sending, 0)

    assert closed(sending, LONG_S) == 0
    assert store.steps == [0]
    assert len(handler.messages) == 1


def test_a_store_that_cannot_be_opened_is_tried_again(bench: UploaderBench) -> None:
    store = ScriptedStore()
    sending = bench.open(ImportError("no driver for this database"))
    bench.put(sending, 0)
    sending.end()

    bench.stores["1"] = store

    assert closed(sending, LONG_S) == 0
    assert store.steps == [0]


def test_resuming_is_tried_again(bench: UploaderBench) -> None:
    store = ScriptedStore(ConnectionError("refused"), stored=sample(6).points(0))
    sending = bench.open(store, tags=dict)
    bench.put(sending, 100)

    assert closed(sending, LONG_S) == 0
    assert store.steps == [6, 107]


def test_a_refusal_of_one_run_is_nothing_to_another(bench: UploaderBench) -> None:
    store = ScriptedStore()
    gone, well = bench.open(ScriptedStore(RunGone("deleted")), "1"), bench.open(store, "2")
    for sending in (gone, well):
        bench.put(sending, 0)

    assert closed(gone, LONG_S) == 0
    assert closed(well, LONG_S) == 0
    assert gone.task.is_gone
    assert store.steps == [0]


def test_a_dead_server_does_not_delay_another(bench: UploaderBench, mocker: MockerFixture) -> None:
    hangs = Gate()
    dead = bench.open(ScriptedStore(hangs), "1")
    bench.put(dead, 0)
    dead.end()
    assert hangs.is_asked.wait(LONG_S)
    other, store = Uploader("http://elsewhere", Backlog(), bench.open_store), ScriptedStore()
    sending = Channel(other, bench.stream(store, "2"))
    sending.put(sample(0))

    assert closed(sending, LONG_S) == 0
    assert store.steps == [0]
    hangs.opens.set()


# Closing


def test_closing_waits_until_all_is_sent(bench: UploaderBench) -> None:
    slow = Gate()
    store = ScriptedStore(slow)
    sending = bench.open(store)
    bench.put(sending, 0, 1, 2)
    assert closed(sending, timeout_s=0.0) == 3  # from now on it is due
    assert slow.is_asked.wait(LONG_S)
    slow.opens.set()

    assert closed(sending, LONG_S) == 0
    assert store.steps == [0, 1, 2]


def test_closing_gives_up_in_time_keeps_what_is_left_and_goes_on_sending(
    bench: UploaderBench,
) -> None:
    hangs = Gate()
    store = ScriptedStore(hangs)
    sending = bench.open(store)
    bench.put(sending, 0, 1, 2)

    assert closed(sending, timeout_s=0.01) == 3
    assert bench.files == [sending.task.stream.spool_path]

    hangs.opens.set()
    join_threads(UPLOADER_THREAD)
    assert store.steps == [0, 1, 2]
    assert bench.files == []


@pytest.mark.parametrize(
    "answer", [Busy("try later", 2 * LONG_S), AccessDenied("the token has expired")], ids=repr
)
def test_closing_does_not_wait_for_what_cannot_come_in_time(
    bench: UploaderBench, mocker: MockerFixture, answer: Exception
) -> None:
    sleeps = mocker.spy(bench.uploader._condition, "wait")
    sending = bench.open(ScriptedStore(answer))
    bench.put(sending, 0)

    assert closed(sending, LONG_S / 2) == 1
    assert len(bench.files) == 1
    assert sleeps.call_count < 10
    sending.task.is_gone = True  # for the thread to end
    bench.open(ScriptedStore(), "2").end()


@pytest.mark.parametrize(
    ("how_long_s", "waits_again"), [(LONG_S, False), (0.0, True)], ids=["just now", "long ago"]
)
def test_runs_that_end_one_after_another_wait_but_once_for_a_store_that_hangs(
    bench: UploaderBench, mocker: MockerFixture, how_long_s: float, *, waits_again: bool
) -> None:
    mocker.patch.object(uploader_module, "LONGEST_PAUSE_S", how_long_s)
    hangs = Gate()
    sendings = [bench.open(ScriptedStore(hangs), str(number)) for number in range(3)]
    for sending in sendings:
        bench.put(sending, 0)
    assert closed(sendings[0], timeout_s=0.01) == 1
    wait_for = mocker.spy(bench.uploader._condition, "wait_for")

    for sending in sendings[1:]:
        assert closed(sending, timeout_s=0.01) == 1

    assert [call.args[1] > 0 for call in wait_for.call_args_list] == [waits_again] * 2
    assert len(bench.files) == 3
    hangs.opens.set()


def test_a_store_that_has_taken_something_is_waited_for_again(
    bench: UploaderBench, mocker: MockerFixture
) -> None:
    hangs = Gate()
    first, second = bench.open(ScriptedStore(hangs), "1"), bench.open(ScriptedStore(), "2")
    for sending in (first, second):
        bench.put(sending, 0)
    assert closed(first, timeout_s=0.01) == 1
    hangs.opens.set()
    with bench.uploader._condition:
        assert bench.uploader._condition.wait_for(lambda: first.task.is_settled, LONG_S)
        assert bench.uploader._condition.wait_for(
            lambda: len(bench.uploader._schedule.tasks) == 1, LONG_S
        )
    wait_for = mocker.spy(bench.uploader._condition, "wait_for")

    assert closed(second, LONG_S) == 0

    assert mocker.call(mocker.ANY, LONG_S) in wait_for.call_args_list


def test_ctrl_c_while_closing_keeps_what_is_left(
    bench: UploaderBench, mocker: MockerFixture
) -> None:
    hangs = Gate()
    sending = bench.open(ScriptedStore(hangs))
    bench.put(sending, 0)
    wait_for = bench.uploader._condition.wait_for

    def interrupted(*arguments: Any) -> Any:  # noqa: ANN401 - as wait_for
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return wait_for(*arguments)

    interrupt = mocker.patch.object(bench.uploader._condition, "wait_for", interrupted)

    with pytest.raises(KeyboardInterrupt):
        closed(sending, LONG_S)

    assert len(bench.files) == 1
    mocker.stop(interrupt)
    hangs.opens.set()


def test_samples_are_taken_while_the_store_hangs(bench: UploaderBench) -> None:
    hangs = Gate()
    store = ScriptedStore(hangs)
    sending = bench.open(store, tags=dict)
    assert hangs.is_asked.wait(LONG_S)

    bench.put(sending, 0, 1)
    hangs.opens.set()

    closed(sending, LONG_S)
    assert store.steps == [0, 1]


def test_samples_wake_a_thread_that_has_nothing_to_do(
    bench: UploaderBench, mocker: MockerFixture
) -> None:
    mocker.patch.object(schedule_module, "FLUSH_INTERVAL_S", 0.1)
    waits, sends = threading.Event(), threading.Event()
    wait = bench.uploader._condition.wait

    def note_and_wait(timeout_s: float | None = None) -> bool:
        waits.set()
        return wait(timeout_s)

    mocker.patch.object(bench.uploader._condition, "wait", note_and_wait)
    sending = bench.open(ScriptedStore(sends.set))
    assert waits.wait(LONG_S)

    bench.put(sending, 0)

    assert sends.wait(LONG_S)
    closed(sending, LONG_S)


def test_a_thread_that_cannot_start_is_tried_again(
    bench: UploaderBench, mocker: MockerFixture
) -> None:
    start = mocker.patch("threading.Thread.start", side_effect=RuntimeError("at shutdown"))
    with pytest.raises(RuntimeError, match="at shutdown"):
        bench.open(ScriptedStore())
    mocker.stop(start)
    store = ScriptedStore()

    sending = bench.open(store)
    bench.put(sending, 0)

    assert closed(sending, LONG_S) == 0
    assert store.steps == [0]


# Refusal


def test_what_comes_after_a_refusal_is_not_kept(bench: UploaderBench) -> None:
    sending = bench.open(ScriptedStore(RunGone("deleted")))
    bench.put(sending, 0)
    closed(sending, LONG_S)

    bench.put(sending, 1, 2)

    assert sending.task.stream.unsent == 0
    assert bench.files == []


def test_a_store_that_fails_for_one_run_serves_another(bench: UploaderBench) -> None:
    failing = ScriptedStore(*[ConnectionError("refused")] * 50)
    store = ScriptedStore()
    sendings = [bench.open(failing, "1"), bench.open(store, "2")]
    for sending in sendings:
        bench.put(sending, 0)

    assert closed(sendings[1], LONG_S) == 0
    assert store.steps == [0]
    sendings[0].end()
    join_threads(UPLOADER_THREAD)
    assert failing.steps == [0]
