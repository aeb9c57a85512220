from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakes.scripted_store import ScriptedStore, sample, samples, wide_sample
from fakes.simulation import LONG_S, join_threads
from fakes.streams import left_by
from fakes.uploader_bench import Gate
from mlflow_sysmetrics.delivery.backlog import MAX_BYTES, Backlog
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool
from mlflow_sysmetrics.delivery.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.sampling.sink import Record

pytestmark = pytest.mark.usefixtures("nothing_said")

SPOOL_THREAD = "mlflow-sysmetrics-spool"
SAMPLE_BYTES = sample(0).size_bytes


@pytest.fixture
def backlog() -> Backlog:
    """Room for twenty samples."""
    return Backlog(max_bytes=20 * SAMPLE_BYTES)


def stream_in(backlog: Backlog, folder: Path, run_id: str, waiting: int) -> Stream:
    stream = Stream(RunAddress(run_id, "http://somewhere", "system/"), folder)
    backlog.add(stream)
    for each in samples(range(waiting)):
        stream.queue.add(each)
    return stream


def put(backlog: Backlog, stream: Stream, record: Record) -> None:
    stream.queue.add(record)
    backlog.make_room(stream)


def relieve(backlog: Backlog) -> None:
    """Let it look at what waits, as after each sample, and the disk take what it is to take."""
    backlog._evict()
    join_threads(SPOOL_THREAD)


def send_all(stream: Stream) -> ScriptedStore:
    store = ScriptedStore()
    while stream.unsent:
        stream.send(store)
    return store


def memory_of(*streams: Stream) -> list[int]:
    return [stream.queue.size_bytes // SAMPLE_BYTES for stream in streams]


def test_within_the_bound_all_stays_in_memory(backlog: Backlog, tmp_path: Path) -> None:
    streams = [
        stream_in(backlog, tmp_path, run_id, waiting) for run_id, waiting in (("1", 7), ("2", 8))
    ]

    relieve(backlog)

    assert memory_of(*streams) == [7, 8]
    assert list(tmp_path.iterdir()) == []


def test_before_the_bound_is_reached_the_largest_moves_to_disk(
    backlog: Backlog, tmp_path: Path
) -> None:
    small, large, middle = (
        stream_in(backlog, tmp_path, str(waiting), waiting) for waiting in (3, 8, 7)
    )

    relieve(backlog)

    assert memory_of(small, large, middle) == [3, 0, 7]
    assert [small.unsent, large.unsent, middle.unsent] == [3, 8, 7]
    assert [each.spool_path is None for each in (small, large, middle)] == [True, False, True]


def test_no_more_move_than_have_to(backlog: Backlog, tmp_path: Path) -> None:
    streams = [stream_in(backlog, tmp_path, str(waiting), waiting) for waiting in (4, 5, 12)]

    relieve(backlog)

    assert memory_of(*streams) == [4, 5, 0]


def test_a_stream_that_is_over_is_not_counted(backlog: Backlog, tmp_path: Path) -> None:
    over, open_ = (stream_in(backlog, tmp_path, run_id, 15) for run_id in "12")
    backlog.remove(over)

    relieve(backlog)

    assert memory_of(over, open_) == [15, 15]


def test_however_many_come_memory_is_bounded_and_all_are_sent_once_in_order(
    backlog: Backlog, tmp_path: Path
) -> None:
    streams = [stream_in(backlog, tmp_path, run_id, 0) for run_id in "123"]
    for each in samples(range(500)):
        for stream in streams:
            put(backlog, stream, each)
            join_threads(SPOOL_THREAD)
            assert sum(memory_of(*streams)) <= 16

    for stream in streams:
        assert send_all(stream).steps == list(range(500))
        assert stream.queue.dropped == 0
    assert list(tmp_path.iterdir()) == []


def test_without_a_disk_memory_is_bounded_and_what_is_lost_is_counted(
    backlog: Backlog, tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(Spool, "create", side_effect=OSError("No space left on device"))
    stream = stream_in(backlog, tmp_path, "1", 0)
    for each in samples(range(500)):
        put(backlog, stream, each)
        assert stream.queue.size_bytes <= 20 * SAMPLE_BYTES
    join_threads(SPOOL_THREAD)

    store = send_all(stream)

    steps = store.steps
    assert steps == sorted(set(steps))
    assert steps[-1] == 499
    assert steps == list(range(min(steps), 500))  # the oldest were dropped
    assert stream.queue.dropped == 500 - len(steps)
    assert store.tags == {"sysmetrics.dropped_samples": str(stream.queue.dropped)}
    assert len(caplog.messages) == 2


# A disk that hangs


@pytest.fixture
def hanging(mocker: MockerFixture) -> Iterator[Gate]:
    """The disk does not answer before this gate opens."""
    gate = Gate()
    write = Spool._write

    def hang(spool: Spool, records: Any, **options: Any) -> None:  # noqa: ANN401 - any JSON
        gate()
        write(spool, records, **options)

    mocker.patch.object(Spool, "_write", hang)
    mocker.patch("mlflow_sysmetrics.delivery.stream._DISK_PATIENCE_S", 0.0)
    yield gate
    gate.opens.set()
    join_threads(SPOOL_THREAD)


def test_while_a_disk_hangs_samples_are_taken_sent_and_ended_and_memory_is_bounded(
    backlog: Backlog, tmp_path: Path, hanging: Gate
) -> None:
    stream = stream_in(backlog, tmp_path, "1", 10)
    put(backlog, stream, sample(10))  # overdue
    assert hanging.is_asked.wait(LONG_S)

    for each in samples(range(11, 500)):
        put(backlog, stream, each)
        assert stream.queue.size_bytes <= 21 * SAMPLE_BYTES
    assert not backlog.persist(stream, timeout_s=0.01, is_last=True)
    store = send_all(stream)

    steps = store.steps
    assert steps[:11] == list(range(11))  # which the disk is to get
    assert steps[-1] == 499
    assert stream.queue.dropped == 500 - len(steps)
    hanging.opens.set()
    join_threads(SPOOL_THREAD)
    assert list(tmp_path.iterdir()) == []  # for all is sent


def test_what_was_written_late_is_sent_once(
    backlog: Backlog, tmp_path: Path, hanging: Gate
) -> None:
    stream = stream_in(backlog, tmp_path, "1", 16)
    put(backlog, stream, sample(16))  # too many
    assert hanging.is_asked.wait(LONG_S)
    put(backlog, stream, sample(17))
    assert stream.queue.unpersisted == 18

    hanging.opens.set()
    join_threads(SPOOL_THREAD)

    assert stream.queue.size_bytes == 0
    assert send_all(stream).steps == list(range(18))
    assert list(tmp_path.iterdir()) == []


def test_what_is_forgotten_while_it_is_written_leaves_no_file(
    backlog: Backlog, tmp_path: Path, hanging: Gate
) -> None:
    stream = stream_in(backlog, tmp_path, "1", 10)
    put(backlog, stream, sample(10))
    assert hanging.is_asked.wait(LONG_S)

    assert stream.forget() == 11
    hanging.opens.set()
    join_threads(SPOOL_THREAD)

    assert list(tmp_path.iterdir()) == []


def test_where_no_thread_can_start_the_one_who_waits_writes(
    backlog: Backlog, tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch("threading.Thread.start", side_effect=RuntimeError("at interpreter shutdown"))
    stream = stream_in(backlog, tmp_path, "1", 10)
    put(backlog, stream, sample(10))
    assert stream.queue.unpersisted == 11

    assert backlog.persist(stream, timeout_s=0.0)

    assert left_by(stream).unsent == 11


def test_a_failure_nobody_foresaw_costs_no_other_stream_its_place_on_disk(
    backlog: Backlog, tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    failing, well = (stream_in(backlog, tmp_path, run_id, 3) for run_id in "12")
    mocker.patch.object(failing, "persist", side_effect=ArithmeticError("unforeseen"))

    assert not backlog.persist(failing, LONG_S)
    assert backlog.persist(well, LONG_S)

    assert "unforeseen" in caplog.text


def test_the_bound_of_a_process_holds_hours_of_samples() -> None:
    of_a_large_host = wide_sample(0, 120)

    assert 12 * 360 * of_a_large_host.size_bytes > MAX_BYTES > 5 * 360 * of_a_large_host.size_bytes
