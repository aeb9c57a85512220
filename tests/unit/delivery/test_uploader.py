from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from fakes.scripted_store import ScriptedStore, points, stream_to
from fakes.simulation import LONG_S, join_threads
from mlflow_sysmetrics.delivery import uploader as uploader_module
from mlflow_sysmetrics.delivery.tracking import Refused
from mlflow_sysmetrics.delivery.uploader import Stream, Uploader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

THREAD = "mlflow-sysmetrics-uploader"


@pytest.fixture
def uploader(mocker: MockerFixture) -> Iterator[Uploader]:
    """An uploader that tries again at once, and whose thread must end with its test."""
    mocker.patch.object(uploader_module, "_FIRST_PAUSE_S", 0.0)
    yield Uploader()
    join_threads(THREAD)


# Sending


def test_what_waits_is_sent_when_the_stream_closes(uploader: Uploader) -> None:
    store = ScriptedStore()
    stream = stream_to(store)
    uploader.open(stream)
    uploader.put(stream, points([0, 0, 1]))

    assert uploader.close(stream, LONG_S) == 0
    assert store.batches == [points([0, 0, 1])]


def test_batches_are_no_longer_than_mlflow_allows_and_in_order(uploader: Uploader) -> None:
    store = ScriptedStore()
    stream = stream_to(store)
    uploader.open(stream)
    uploader.put(stream, points(range(2500)))

    uploader.close(stream, LONG_S)

    assert [len(batch) for batch in store.batches] == [1000, 1000, 500]
    assert store.steps == list(range(2500))


def test_a_new_run_is_not_read(uploader: Uploader) -> None:
    store = ScriptedStore(first_step=9)
    stream = stream_to(store)
    uploader.open(stream)
    uploader.put(stream, points([0]))

    uploader.close(stream, LONG_S)

    assert store.resumed_with == []
    assert store.steps == [0]


def test_a_resumed_run_goes_on_with_its_steps_and_gets_its_tags(uploader: Uploader) -> None:
    store = ScriptedStore(first_step=40)
    stream = stream_to(store, tags=lambda: {"sys.cpu": "EPYC"})
    uploader.open(stream)
    uploader.put(stream, points([0, 1]))

    uploader.close(stream, LONG_S)

    assert store.resumed_with == [{"sys.cpu": "EPYC"}]
    assert store.steps == [40, 41]


def test_a_resumed_run_gets_its_tags_also_if_nothing_is_logged(uploader: Uploader) -> None:
    store = ScriptedStore()
    stream = stream_to(store, tags=lambda: {"sys.cpu": "EPYC"})
    uploader.open(stream)

    uploader.close(stream, LONG_S)

    assert store.resumed_with == [{"sys.cpu": "EPYC"}]
    assert store.batches == []


def test_streams_are_sent_each_to_its_own_store(uploader: Uploader) -> None:
    stores = [ScriptedStore(), ScriptedStore()]
    streams = [stream_to(store) for store in stores]
    for number, stream in enumerate(streams):
        uploader.open(stream)
        uploader.put(stream, points([number]))

    for stream in streams:
        uploader.close(stream, LONG_S)

    assert [store.steps for store in stores] == [[0], [1]]


def test_after_the_last_stream_a_new_one_has_a_new_thread(uploader: Uploader) -> None:
    for _ in range(2):
        store = ScriptedStore()
        stream = stream_to(store)
        uploader.open(stream)
        uploader.put(stream, points([0]))
        assert uploader.close(stream, LONG_S) == 0
        join_threads(THREAD)
        assert store.steps == [0]


# Failures


def test_what_could_not_be_sent_is_sent_again_in_order(
    uploader: Uploader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlflow_sysmetrics")
    store = ScriptedStore(ConnectionError("refused"), TimeoutError("no answer"))
    stream = stream_to(store)
    uploader.open(stream)
    uploader.put(stream, points(range(1500)))

    assert uploader.close(stream, LONG_S) == 0
    join_threads(THREAD)
    assert store.steps == list(range(1500))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "refused" in caplog.text


def test_a_failure_in_the_middle_sends_nothing_twice(uploader: Uploader) -> None:
    store = ScriptedStore(lambda: None, ConnectionError("refused"))
    stream = stream_to(store)
    uploader.open(stream)
    uploader.put(stream, points(range(1500)))

    uploader.close(stream, LONG_S)

    assert store.steps == list(range(1500))


def test_a_store_that_cannot_be_opened_is_tried_again(uploader: Uploader) -> None:
    store = ScriptedStore()
    attempts = [ImportError("no driver for this database"), None]

    def open_store() -> ScriptedStore:
        if error := attempts.pop(0):
            raise error
        return store

    stream = Stream("run 1", open_store)  # type: ignore[arg-type] # a stand-in
    uploader.open(stream)
    uploader.put(stream, points([0]))

    assert uploader.close(stream, LONG_S) == 0
    assert store.steps == [0]


def test_resuming_is_tried_again(uploader: Uploader) -> None:
    store = ScriptedStore(ConnectionError("refused"), first_step=7)
    stream = stream_to(store, tags=dict)
    uploader.open(stream)
    uploader.put(stream, points([0]))

    assert uploader.close(stream, LONG_S) == 0
    assert store.steps == [7]


def test_a_refusal_by_one_store_is_nothing_to_another(uploader: Uploader) -> None:
    store = ScriptedStore()
    refusing, well = stream_to(ScriptedStore(Refused("deleted"))), stream_to(store)
    for stream in (refusing, well):
        uploader.open(stream)
        uploader.put(stream, points([0]))

    uploader.close(refusing, LONG_S)

    assert uploader.close(well, LONG_S) == 0
    assert store.steps == [0]


# Closing


def test_closing_waits_until_all_is_sent(uploader: Uploader) -> None:
    sending, closing = threading.Event(), threading.Event()

    def send_slowly() -> None:
        sending.set()
        assert closing.wait(LONG_S)

    store = ScriptedStore(send_slowly)
    stream = stream_to(store)
    uploader.open(stream)
    uploader.put(stream, points(range(3)))
    assert uploader.close(stream, timeout_s=0.0) == 3  # from now on it is due
    assert sending.wait(LONG_S)
    closing.set()

    assert uploader.close(stream, LONG_S) == 0
    assert store.steps == [0, 1, 2]


def test_closing_gives_up_waiting_in_time_and_sending_goes_on(uploader: Uploader) -> None:
    answers = threading.Event()

    def hang() -> None:
        assert answers.wait(LONG_S)

    store = ScriptedStore(hang)
    stream = stream_to(store)
    uploader.open(stream)
    uploader.put(stream, points(range(3)))

    assert uploader.close(stream, timeout_s=0.01) == 3

    answers.set()
    join_threads(THREAD)
    assert store.steps == [0, 1, 2]


def test_points_are_taken_while_the_store_hangs(uploader: Uploader) -> None:
    hangs, answers = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        assert answers.wait(LONG_S)

    store = ScriptedStore(hang)
    stream = stream_to(store, tags=dict)
    uploader.open(stream)
    assert hangs.wait(LONG_S)

    uploader.put(stream, points([0, 1]))
    answers.set()

    uploader.close(stream, LONG_S)
    assert store.steps == [0, 1]


def test_points_wake_a_thread_that_has_nothing_to_do(
    uploader: Uploader, mocker: MockerFixture
) -> None:
    mocker.patch.object(uploader_module, "FLUSH_INTERVAL_S", 0.0)
    waits, sends = threading.Event(), threading.Event()
    wait = uploader._condition.wait

    def note_and_wait(timeout_s: float | None = None) -> bool:
        waits.set()
        return wait(timeout_s)

    mocker.patch.object(uploader._condition, "wait", note_and_wait)
    stream = stream_to(ScriptedStore(sends.set))
    uploader.open(stream)
    assert waits.wait(LONG_S)

    uploader.put(stream, points([0]))

    assert sends.wait(LONG_S)
    uploader.close(stream, LONG_S)


def test_a_thread_that_cannot_start_is_tried_again(
    uploader: Uploader, mocker: MockerFixture
) -> None:
    start = mocker.patch("threading.Thread.start", side_effect=RuntimeError("at shutdown"))
    with pytest.raises(RuntimeError, match="at shutdown"):
        uploader.open(stream_to(ScriptedStore()))
    mocker.stop(start)
    store = ScriptedStore()
    stream = stream_to(store)

    uploader.open(stream)
    uploader.put(stream, points([0]))

    assert uploader.close(stream, LONG_S) == 0
    assert store.steps == [0]
