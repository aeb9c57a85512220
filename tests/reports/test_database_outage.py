"""A database that is away leaves one warning in the log, and hides nobody's records."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from fakes.scripted_store import samples
from fakes.simulation import join_threads
from fakes.uploader_bench import UPLOADER_THREAD, closed
from fakes.waiting import eventually
from mlflow_sysmetrics.delivery.backlog import Backlog
from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.quiet import quiet_libraries
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import StoreFailed
from mlflow_sysmetrics.delivery.spool import Spool, owned_files
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.delivery.uploader import Uploader
from mlflow_sysmetrics.sampling.sink import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")

MLFLOWS = logging.getLogger("mlflow.store.db.utils")


class Log(logging.Handler):
    """All that anybody logs, at whichever logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [each.getMessage() for each in self.records if each.levelno >= logging.WARNING]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    loggers = [logging.getLogger(), logging.getLogger("mlflow")]  # MLflow's do not propagate
    for each in loggers:
        each.addHandler(log)
    yield log
    for each in loggers:
        each.removeHandler(log)
    owned_files.disown_all()


def test_an_outage_of_the_database_leaves_one_warning_and_no_traceback(
    tmp_path: Path, empty_database: Path, log: Log
) -> None:
    here, away = tmp_path / "here", tmp_path / "away"
    here.mkdir()
    (here / "runs.db").write_bytes(empty_database.read_bytes())
    uri = f"sqlite:///{here}/runs.db"
    run_id = MlflowClient(uri).create_run("0").info.run_id
    uploader = Uploader(uri, Backlog(), jitter=lambda: 0.01)
    here.rename(away)

    sending = Channel(uploader, Stream(RunAddress(run_id, uri, "system/"), tmp_path / "spool"))
    sending.put(Record(0, 1_700_000_000_000, {"a": 1.0}, 3))
    sending.end()
    eventually(lambda: sending.task.backoff.failures > 3)
    for leftover in here.glob("*"):  # SQLite makes an empty file where there is none
        leftover.unlink()
    if here.exists():
        here.rmdir()
    away.rename(here)
    assert closed(sending, 60) == 0
    join_threads(UPLOADER_THREAD)

    assert len(log.messages) == 1
    assert log.messages[0].startswith(f"mlflow-sysmetrics: {uri} takes no metrics now")
    assert [each for each in log.records if each.exc_info] == []
    assert len(MlflowClient(uri).get_metric_history(run_id, "system/a")) == 1


def test_a_store_that_cannot_be_opened_says_so_without_mlflows_tracebacks(log: Log) -> None:
    with pytest.raises(StoreFailed):
        open_store(RunAddress("1", "postgresql+nothing://me:secret99@127.0.0.1/db", "system/"))

    assert log.messages == []


def test_what_others_log_meanwhile_and_afterwards_is_seen(log: Log) -> None:
    with quiet_libraries():
        MLFLOWS.error("ours")
        with quiet_libraries():
            MLFLOWS.error("ours, too")
        MLFLOWS.error("still ours")
        logging.getLogger("users").error("of the user's handler")
        other = threading.Thread(target=MLFLOWS.error, args=("of another thread",))
        other.start()
        other.join()
    MLFLOWS.error("after it")

    assert log.messages == ["of the user's handler", "of another thread", "after it"]


def test_a_filter_of_the_users_goes_on_to_be_asked(log: Log) -> None:
    asked: list[str] = []

    def users(record: logging.LogRecord) -> bool:
        asked.append(record.getMessage())
        return True

    MLFLOWS.addFilter(users)
    try:
        with quiet_libraries():
            pass
        MLFLOWS.error("of the user's")
    finally:
        MLFLOWS.removeFilter(users)

    assert asked == log.messages == ["of the user's"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_that_is_forked_in_a_call_logs_what_it_meets() -> None:
    reading, writing = os.pipe()
    with quiet_libraries():
        child = os.fork()
        if not child:
            seen = MLFLOWS.filter(MLFLOWS.makeRecord("x", logging.ERROR, "", 0, "m", (), None))
            os.write(writing, b"seen" if seen else b"hidden")
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        assert said.read() == b"seen"


# Samples, not logged points


def test_what_waits_is_counted_in_samples_also_after_a_restart(tmp_path: Path) -> None:
    stream = Stream(RunAddress("1", "http://somewhere", "system/"), tmp_path)
    for each in samples(range(4)):
        stream.queue.add(each._replace(samples=6))
    assert (stream.unsent, stream.queue.unpersisted) == (24, 24)

    stream.move_to_disk()
    assert (stream.unsent, stream.queue.unpersisted) == (24, 0)
    path = stream.spool_path
    assert path is not None
    stream.release()

    left = Stream.of_spool(Spool.adopt(path), stream.address)
    assert left.unsent == 24
    assert left.forget() == 24


def test_what_is_lost_is_counted_in_samples(tmp_path: Path) -> None:
    stream = Stream(RunAddress("1", "http://somewhere", "system/"))
    for each in samples(range(8)):
        stream.queue.add(each._replace(samples=6))

    stream.drop_oldest()

    assert stream.queue.dropped > 0
    assert stream.unsent + stream.queue.dropped == 48
