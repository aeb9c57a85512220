from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fakes.scripted_store import ScriptedStore
from fakes.simulation import LONG_S, join_threads
from fakes.uploader_bench import UPLOADER_THREAD, URI, Gate, closed
from mlflow_sysmetrics.delivery import schedule as schedule_module
from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy, RunGone, RunNotFound
from mlflow_sysmetrics.delivery.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

    from fakes.uploader_bench import UploaderBench


# What earlier processes left


def send_own(bench: UploaderBench, store: ScriptedStore) -> None:
    """Send a run of this process, and then what there is else, until the thread ends."""
    bench.uploader.send_leftovers(bench.folder)
    sending = bench.open(store, "own")
    bench.put(sending, 0)
    assert closed(sending, LONG_S) == 0
    join_threads(UPLOADER_THREAD)


def test_what_was_left_is_sent_after_the_own_the_oldest_first(bench: UploaderBench) -> None:
    own = ScriptedStore()
    left = [ScriptedStore() for _ in range(3)]
    for number, store in enumerate(left):
        bench.leave(f"left-{number}", number, number + 1, store=store)

    send_own(bench, own)

    assert own.steps == [0]
    assert [store.steps for store in left] == [[0, 1], [1, 2], [2, 3]]
    assert bench.opened == ["own", "left-0", "left-1", "left-2"]
    assert bench.files == []


def test_what_was_left_is_looked_for_only_when_the_store_works(bench: UploaderBench) -> None:
    store = ScriptedStore()
    path = bench.leave("left", 0, store=store)
    answers: list[list[Path]] = []

    def refuse() -> None:
        answers.append(bench.files)
        raise ConnectionError("refused")

    send_own(bench, ScriptedStore(refuse, refuse))

    assert all(path in files for files in answers)
    assert store.steps == [0]


@pytest.mark.parametrize("answer", [ConnectionError("refused"), Busy("", 0.0)], ids=repr)
def test_what_was_left_is_tried_a_few_times(bench: UploaderBench, answer: Exception) -> None:
    left = [ScriptedStore(answer, answer), ScriptedStore()]
    for number, store in enumerate(left):
        bench.leave(f"left-{number}", 0, store=store)

    send_own(bench, ScriptedStore())

    assert [store.steps for store in left] == [[0], [0]]
    assert bench.files == []


def test_what_was_left_is_not_taken_up_before_a_sample_of_an_own_run_is_sent(
    bench: UploaderBench,
) -> None:
    left = ScriptedStore()
    bench.leave("left", 0, store=left)
    bench.uploader.send_leftovers(bench.folder)
    resumed = ScriptedStore()
    sending = bench.open(resumed, "own", tags=dict)
    with bench.uploader._condition:
        assert bench.uploader._condition.wait_for(lambda: sending.task.is_settled, LONG_S)
    taken_up = list(bench.opened)
    bench.put(sending, 0)
    closed(sending, LONG_S)
    join_threads(UPLOADER_THREAD)

    assert taken_up == ["own"]
    assert left.steps == [0]


def test_what_was_left_is_looked_for_once(bench: UploaderBench) -> None:
    bench.leave("left", 0, store=ScriptedStore())
    send_own(bench, ScriptedStore())
    later = ScriptedStore()
    path = bench.leave("later", 0, store=later)

    sending = bench.open(ScriptedStore(), "own-again")
    bench.put(sending, 0)
    closed(sending, LONG_S)
    join_threads(UPLOADER_THREAD)

    assert later.steps == []
    assert bench.files == [path]


def test_what_was_left_for_another_store_is_left_alone(bench: UploaderBench) -> None:
    path = bench.leave("left", 0, store=ScriptedStore(), uri="http://elsewhere")

    send_own(bench, ScriptedStore())

    assert bench.opened == ["own"]
    Spool.adopt(path)  # it is free


def test_of_what_was_left_for_another_store_only_the_beginning_is_read(
    bench: UploaderBench, mocker: MockerFixture
) -> None:
    bench.leave("left", 0, store=ScriptedStore(), uri="http://elsewhere")
    check = mocker.patch.object(Spool, "check_on")

    send_own(bench, ScriptedStore())

    check.assert_not_called()


def test_what_was_left_is_sent_with_the_password_of_this_process(
    bench: UploaderBench, mocker: MockerFixture
) -> None:
    uri = "postgresql://me:secret@host/db"
    mocker.patch.object(bench.uploader, "_tracking_uri", uri)
    bench.leave("left", 0, store=ScriptedStore(), uri=uri)
    opens = mocker.spy(bench.uploader, "_open_store")

    send_own(bench, ScriptedStore())

    assert {call.args[0].tracking_uri for call in opens.call_args_list} == {URI, uri}


def test_what_cannot_be_sent_now_is_left_again_and_nothing_is_said(
    bench: UploaderBench, caplog: pytest.LogCaptureFixture
) -> None:
    store, other = ScriptedStore(*[ConnectionError("refused")] * 100), ScriptedStore()
    paths = [bench.leave("left", 0, store=store), bench.leave("other", 0, store=other)]

    send_own(bench, ScriptedStore())

    assert len(store.calls) == schedule_module._LEFTOVER_ATTEMPTS
    assert other.calls == []
    assert sorted(bench.files) == sorted(paths)
    assert caplog.messages == []
    Spool.adopt(paths[0])  # it is free


@pytest.mark.parametrize("answer", [RunGone(""), RunNotFound(""), AccessDenied("")], ids=repr)
def test_a_run_that_the_store_does_not_give_holds_no_other_up(
    bench: UploaderBench, answer: Exception
) -> None:
    gone = bench.leave("gone", 0, store=ScriptedStore(answer))
    store = ScriptedStore()
    bench.leave("left", 0, store=store)

    send_own(bench, ScriptedStore())

    assert store.steps == [0]
    assert bench.files == [gone]


def test_what_was_all_sent_or_is_in_use_is_no_leftover(bench: UploaderBench) -> None:
    sent = bench.leave("sent", 0, store=ScriptedStore())
    spool = Spool.adopt(sent)
    spool.mark(sent_to=1)
    spool.release()
    (bench.folder / "not-ours.spool").write_text("hello")
    in_use = Spool.adopt(bench.leave("in-use", 0, store=ScriptedStore()))

    send_own(bench, ScriptedStore())

    assert bench.opened == ["own"]
    assert set(bench.files) == {bench.folder / "not-ours.spool", in_use.path}


def test_a_leftover_does_not_keep_a_run_from_closing(bench: UploaderBench) -> None:
    slow = Gate()
    bench.leave("left", 0, store=ScriptedStore(slow))
    bench.uploader.send_leftovers(bench.folder)
    sending = bench.open(ScriptedStore(), "own")
    bench.put(sending, 0)

    assert closed(sending, LONG_S) == 0
    assert slow.is_asked.wait(LONG_S)
    slow.opens.set()
