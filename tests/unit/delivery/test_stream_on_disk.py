"""Samples that wait for long, or are too many for memory."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from fakes.scripted_store import LostAnswer, ScriptedStore, sample, wide_sample
from fakes.streams import ADDRESS, add, left_by, send_all
from mlflow_sysmetrics.delivery.spool import Spool, spool_files
from mlflow_sysmetrics.delivery.stream import DROPPED_TAG, Stream
from mlflow_sysmetrics.sampling.sink import Record

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture


pytestmark = pytest.mark.usefixtures("nothing_said")


# On disk


def test_samples_that_are_sent_in_time_touch_no_disk(stream: Stream, tmp_path: Path) -> None:
    store = ScriptedStore()
    for step in range(0, 100, 5):
        add(stream, *range(step, step + 5))
        stream.send(store)

    assert list(tmp_path.iterdir()) == []


def test_samples_that_wait_for_ten_seconds_go_to_disk_as_they_come(stream: Stream) -> None:
    add(stream, *range(10))
    assert stream.spool_path is None

    add(stream, 10)

    assert stream.spool_path is not None
    add(stream, 11, 12)
    later = left_by(stream)
    assert later.unsent == 11  # of the last ten seconds, a crash takes what it will


@pytest.mark.parametrize(
    ("tick_ms", "in_time"),
    [(10_000, 1), (9_998, 1), (5_000, 2), (2_498, 4), (1_000, 10), (10, 1000)],
)
def test_ticks_that_come_a_little_early_do_not_double_what_a_crash_costs(
    stream: Stream, tick_ms: int, in_time: int
) -> None:
    times_ms = [tick_ms * number for number in range(in_time + 1)]
    *before, last = [Record(n, ms, {"key": 1.0}) for n, ms in enumerate(times_ms)]
    for each in before:
        stream.queue.add(each)
        assert not stream.is_overdue

    stream.queue.add(last)

    assert stream.is_overdue


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no file that is open")
@pytest.mark.parametrize("is_relieved", [False, True], ids=["in memory, too", "on disk alone"])
def test_a_file_that_someone_deletes_is_made_anew(
    stream: Stream, tmp_path: Path, *, is_relieved: bool
) -> None:
    add(stream, *range(12))
    if is_relieved:
        stream.move_to_disk()
    shutil.rmtree(tmp_path)

    add(stream, 12)
    stream.persist()

    later = left_by(stream)
    store = ScriptedStore()
    send_all(later, store)
    assert store.steps == [*range(13)]


def test_what_is_both_in_memory_and_on_disk_is_sent_once_and_its_file_deleted(
    stream: Stream, tmp_path: Path
) -> None:
    store = ScriptedStore()
    add(stream, 0, 1)
    stream.persist()
    add(stream, 2)

    send_all(stream, store)

    assert store.steps == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []


def test_what_was_sent_of_a_file_is_not_sent_by_a_later_process(stream: Stream) -> None:
    add(stream, *range(5))
    stream.persist()
    store = ScriptedStore()
    store.limits.batch_points = 2
    stream.send(store)

    later = left_by(stream)
    assert later.unsent == 3
    send_all(later, store)

    assert store.steps == [0, 1, 2, 3, 4]


def test_what_was_sent_but_not_noted_is_not_stored_twice(stream: Stream) -> None:
    add(stream, *range(5))
    stream.persist()
    path = stream.spool_path
    assert path is not None
    content = path.read_bytes()
    store = ScriptedStore()
    send_all(stream, store)
    path.write_bytes(content)  # the process was killed before it could delete the file

    later = Stream.of_spool(Spool.adopt(path), ADDRESS)
    assert later.unsent == 5
    assert later.count_missing(store) == 0
    send_all(later, store)

    assert store.steps == [0, 1, 2, 3, 4]
    assert not path.exists()


def test_what_the_store_lacks_is_counted_without_sending_it(stream: Stream) -> None:
    add(stream, *range(5))
    stream.persist()
    store = ScriptedStore(stored=[p for step in (0, 1, 2) for p in sample(step).points(0)])

    later = left_by(stream)

    assert later.count_missing(store) == 2
    assert later.unsent == 5
    assert "log" not in store.calls


def test_of_a_file_that_the_store_has_nothing_of_only_the_beginning_is_looked_up(
    stream: Stream,
) -> None:
    for step in range(10):
        stream.queue.add(wide_sample(step, 500))
    stream.persist()
    store = ScriptedStore(stored=wide_sample(50, 500).points(0))  # of a later opening

    later = left_by(stream)
    assert later.count_missing(store) == 10
    store.calls.clear()
    send_all(later, store)

    assert store.calls == ["read", *["timestamps"] * 500, *["log"] * 5]


def test_how_many_samples_are_lost_is_told_by_a_later_process(
    stream: Stream, mocker: MockerFixture
) -> None:
    full_disk = mocker.patch.object(Spool, "create", side_effect=OSError("No space left on device"))
    add(stream, *range(20))
    stream.drop_oldest()
    mocker.stop(full_disk)
    stream.persist(is_last=True)
    assert stream.queue.dropped > 0
    store = ScriptedStore()

    send_all(left_by(stream), store)

    assert store.tags == {DROPPED_TAG: str(stream.queue.dropped)}
    assert len(store.stored) == 20 - stream.queue.dropped


def test_a_disk_that_refuses_is_said_once_and_left_alone_for_a_minute(
    stream: Stream, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    create = mocker.patch.object(Spool, "create", side_effect=OSError("No space left on device"))
    add(stream, *range(71))

    assert create.call_count == 2  # at 10 s and 70 s
    (message,) = caplog.messages
    assert "lost if this process ends before they are sent" in message
    assert "MLFLOW_SYSMETRICS_SPOOL_DIR can name another folder" in message
    assert message.endswith("No space left on device")

    mocker.stop(create)
    add(stream, 130)
    assert left_by(stream).unsent == 72


def test_without_a_folder_samples_wait_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    stream = Stream(ADDRESS)
    add(stream, 0, 1)

    stream.persist()
    assert stream.spool_path is None
    assert "MLFLOW_SYSMETRICS_SPOOL_DIR names one" in caplog.text
    assert stream.unsent == 2


def test_what_is_forgotten_leaves_no_file(stream: Stream, tmp_path: Path) -> None:
    add(stream, 0, 1)
    stream.persist()
    stream.move_to_disk()
    add(stream, 2)

    assert stream.forget() == 3
    assert stream.unsent == 0
    assert list(tmp_path.iterdir()) == []


# Room in memory


def test_to_make_room_samples_move_to_disk_and_are_sent_from_there_in_order(
    stream: Stream, tmp_path: Path
) -> None:
    store = ScriptedStore()
    store.limits.batch_points = 3
    add(stream, *range(8))

    stream.move_to_disk()
    assert (stream.queue.size_bytes, stream.unsent) == (0, 8)
    add(stream, 8, 9)
    stream.send(store)
    add(stream, 10)
    stream.move_to_disk()
    add(stream, 11)
    send_all(stream, store)

    assert store.steps == list(range(12))
    assert stream.queue.dropped == 0
    assert list(tmp_path.iterdir()) == []


def test_what_moves_to_disk_while_it_is_sent_is_sent_once(stream: Stream, tmp_path: Path) -> None:
    store = ScriptedStore(stream.move_to_disk)
    add(stream, *range(4))

    stream.send(store)
    assert stream.unsent == 0
    add(stream, 4)
    send_all(stream, store)

    assert store.steps == [0, 1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == []


def test_what_is_on_disk_alone_is_not_stored_twice_after_a_lost_answer(stream: Stream) -> None:
    store = ScriptedStore(LostAnswer(2), lambda: None, lambda: None, LostAnswer())
    store.limits.batch_points = 3
    add(stream, *range(7))
    stream.move_to_disk()
    add(stream, 7, 8)

    send_all(stream, store)

    assert store.steps == list(range(9))


def test_without_a_disk_the_oldest_samples_are_dropped_and_the_run_tells_how_many(
    stream: Stream, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(Spool, "create", side_effect=OSError("No space left on device"))
    add(stream, *range(9))
    stream.persist()

    stream.drop_oldest()
    stream.drop_oldest()

    store = ScriptedStore()
    send_all(stream, store)
    assert store.steps == list(range(2, 9))
    assert stream.queue.dropped == 2
    assert store.tags == {DROPPED_TAG: "2"}
    full, lost = caplog.messages
    assert "No space left" in full
    assert "samples of run 1 are lost" in lost
    assert DROPPED_TAG in lost


def test_the_tag_is_logged_again_only_when_more_are_lost(
    stream: Stream, mocker: MockerFixture
) -> None:
    mocker.patch.object(Spool, "create", side_effect=OSError("No space left on device"))
    store = ScriptedStore()
    log = mocker.spy(store, "log")
    add(stream, 0, 1)
    stream.drop_oldest()
    send_all(stream, store)
    add(stream, 2)
    send_all(stream, store)
    add(stream, 3, 4, 5)
    stream.drop_oldest()
    send_all(stream, store)

    told = [call.args[1] for call in log.call_args_list]
    assert told == [{DROPPED_TAG: "1"}, {}, {DROPPED_TAG: "2"}]


def test_the_tag_is_logged_also_if_the_first_attempt_fails(
    stream: Stream, mocker: MockerFixture
) -> None:
    mocker.patch.object(Spool, "create", side_effect=OSError("No space left on device"))
    store = ScriptedStore(ConnectionError("refused"))
    add(stream, 0, 1)
    stream.drop_oldest()

    send_all(stream, store)

    assert store.tags == {DROPPED_TAG: "1"}


def test_what_is_on_disk_already_is_not_lost_when_the_disk_gets_full(
    stream: Stream, mocker: MockerFixture
) -> None:
    add(stream, *range(6))
    stream.persist()
    mocker.patch.object(Spool, "append", side_effect=OSError("No space left on device"))
    add(stream, 6, 7)

    stream.move_to_disk()

    store = ScriptedStore()
    send_all(stream, store)
    assert store.steps == list(range(8))


def test_room_is_made_of_what_is_on_disk_first_and_then_of_the_rest(
    stream: Stream, mocker: MockerFixture
) -> None:
    add(stream, *range(4))
    stream.persist()
    mocker.patch.object(Spool, "append", side_effect=OSError("No space left on device"))
    add(stream, 4, 5, 6, 7)

    stream.move_to_disk()
    stream.drop_oldest()

    store = ScriptedStore()
    send_all(stream, store)
    assert store.steps == [0, 1, 2, 3, 5, 6, 7]
    assert store.tags == {DROPPED_TAG: "1"}


def test_what_is_on_its_way_to_the_store_is_not_dropped(
    stream: Stream, mocker: MockerFixture
) -> None:
    mocker.patch.object(Spool, "create", side_effect=OSError("No space left on device"))

    def make_room() -> None:
        add(stream, 4, 5, 6, 7)
        stream.drop_oldest()

    store = ScriptedStore(make_room)
    add(stream, *range(4))

    send_all(stream, store)

    assert store.steps == [0, 1, 2, 3, 5, 6, 7]
    assert stream.queue.dropped == 1


def test_an_empty_stream_has_no_room_to_make(stream: Stream, tmp_path: Path) -> None:
    stream.move_to_disk()
    stream.drop_oldest()

    assert list(tmp_path.iterdir()) == []
    assert stream.queue.dropped == 0


def test_a_file_that_is_damaged_while_it_waits_costs_what_was_damaged(
    stream: Stream, tmp_path: Path
) -> None:
    add(stream, 0, 1, 2)
    stream.move_to_disk()
    add(stream, 3)
    path = stream.spool_path
    assert path is not None
    *_, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(path.read_bytes().replace(last, b"x" * (len(last) - 1) + b"\n"))

    store = ScriptedStore()
    send_all(stream, store)

    assert store.steps == [0, 1, 3]
    assert store.tags == {DROPPED_TAG: "1"}
    assert spool_files(tmp_path) == []
