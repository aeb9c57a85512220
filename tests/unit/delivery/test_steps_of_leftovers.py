"""No step of a metric occurs twice, whoever sends what a process that has ended left, and when."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from fakes.scripted_store import OPENED_MS, ScriptedStore, sample
from fakes.uploader_bench import UploaderBench, closed
from mlflow_sysmetrics.delivery.leftovers import stream_of
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import Limits, NotYet
from mlflow_sysmetrics.delivery.spool import Spool, spool_files
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.tracking import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflow_sysmetrics.delivery.run_store import RunStore

# MLflow's use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")

HOLDS = """
import sys
from pathlib import Path
from mlflow_sysmetrics.delivery.spool import Spool
spool = Spool.adopt(Path(sys.argv[1]))
print("held", flush=True)
input()
if sys.argv[2:]:
    spool.mark(first_step=int(sys.argv[2]))
    print("asked", flush=True)
    input()
"""


def no_tags() -> Mapping[str, str]:
    return {}


class Openings:
    """The processes that log to one run one after the other, each a second a sample."""

    def __init__(self, address: RunAddress, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self.store: RunStore = open_store(address)
        self._added = 0

    def open(self, *, resumed: bool = True) -> Stream:
        return Stream(self.address, self.folder, no_tags if resumed else None)

    def add(self, stream: Stream, count: int) -> None:
        for step in range(stream.queue.added, stream.queue.added + count):
            self._added += 1
            time_ms = OPENED_MS + 1000 * self._added
            stream.queue.add(sample(step)._replace(timestamp_ms=time_ms))

    def leave(self, count: int, *, resumed: bool = True) -> Path:
        """Let a process be killed that could send nothing of what it wrote to disk."""
        stream = self.open(resumed=resumed)
        self.add(stream, count)
        return killed(stream)

    def send(self, stream: Stream) -> None:
        while stream.unsent:
            stream.send(self.store)

    def send_left(self) -> None:
        for path in spool_files(self.folder):
            self.send(stream_of(Spool.adopt(path), self.address.tracking_uri))

    def assert_each_step_is_there_once(self) -> None:
        client = MlflowClient(self.address.tracking_uri)
        key = f"{self.address.prefix}key"
        points = client.get_metric_history(self.address.run_id, key)
        in_time = sorted(points, key=lambda each: each.timestamp)
        steps = [each.step for each in in_time]
        assert len(steps) == self._added
        assert steps == sorted(set(steps))


def killed(stream: Stream) -> Path:
    stream.persist(is_last=True)
    path = stream.spool_path
    assert path is not None
    stream.release()
    return path


@pytest.fixture
def tracking_uri(tmp_path: Path, empty_database: Path) -> str:
    shutil.copy(empty_database, tmp_path / "runs.db")
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def openings(tmp_path: Path, tracking_uri: str) -> Openings:
    client = MlflowClient(tracking_uri)
    run = client.create_run(client.create_experiment("steps"))
    return Openings(RunAddress(run.info.run_id, tracking_uri, "system/"), tmp_path / "spool")


@pytest.mark.parametrize("sent", [0, 3])
def test_a_run_that_is_resumed_counts_on_from_what_was_left(openings: Openings, sent: int) -> None:
    first = openings.open(resumed=False)
    openings.add(first, sent)
    openings.send(first)
    openings.add(first, 4)
    killed(first)

    second = openings.open()
    openings.add(second, 2)
    openings.send(second)
    openings.send_left()
    openings.add(second, 2)
    openings.send(second)

    openings.assert_each_step_is_there_once()


def test_what_was_left_in_part_sent_is_counted_whole(openings: Openings) -> None:
    openings.store.limits.batch_points = 2
    first = openings.open(resumed=False)
    openings.add(first, 5)
    first.persist()
    first.send(openings.store)
    killed(first)

    second = openings.open()
    openings.add(second, 3)
    openings.send(second)
    openings.send_left()

    openings.assert_each_step_is_there_once()


@pytest.mark.parametrize("lefts", [1, 2])
@pytest.mark.parametrize("is_left_sent_first", [True, False])
def test_what_was_left_by_resumed_runs_that_the_store_never_answered_has_steps_of_its_own(
    openings: Openings, lefts: int, *, is_left_sent_first: bool
) -> None:
    for _ in range(lefts):
        openings.leave(4)

    last = openings.open()
    openings.add(last, 2)
    last.persist()
    own = last.spool_path
    if is_left_sent_first:
        for path in spool_files(openings.folder):
            if path != own:
                openings.send(stream_of(Spool.adopt(path), openings.address.tracking_uri))
    openings.send(last)
    openings.send_left()
    openings.add(last, 2)
    openings.send(last)

    openings.assert_each_step_is_there_once()


def test_what_another_process_is_sending_is_counted_too(openings: Openings) -> None:
    path = openings.leave(4, resumed=False)
    holder = [sys.executable, "-c", HOLDS, str(path)]
    pipe = subprocess.PIPE

    last = openings.open()
    openings.add(last, 2)
    with subprocess.Popen(holder, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        openings.send(last)
        process.communicate("\n")
    openings.send_left()

    openings.assert_each_step_is_there_once()


def test_a_run_waits_until_another_process_knows_the_steps_of_what_it_is_sending(
    openings: Openings,
) -> None:
    path = openings.leave(4)
    holder = [sys.executable, "-c", HOLDS, str(path), "0"]
    pipe = subprocess.PIPE

    last = openings.open()
    openings.add(last, 2)
    with subprocess.Popen(holder, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(NotYet, match="another process"):
            last.send(openings.store)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "asked\n"
        openings.send(last)
        process.communicate("\n")
    openings.send_left()

    openings.assert_each_step_is_there_once()


def test_a_run_does_not_wait_for_ever_for_another_process(openings: Openings) -> None:
    path = openings.leave(4)
    holder = [sys.executable, "-c", HOLDS, str(path)]
    pipe = subprocess.PIPE

    last = openings.open()
    openings.add(last, 2)
    with subprocess.Popen(holder, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        refused = 0
        while last.unsent:
            try:
                last.send(openings.store)
            except NotYet:
                refused += 1
        process.communicate("\n")

    assert refused == 15
    state = openings.store.read()
    assert state.latest["key"].step == 5  # the first four are free for what was left


def test_what_was_left_of_other_hosts_runs_and_stores_is_not_counted(
    openings: Openings, tmp_path: Path
) -> None:
    address = openings.address
    others = [
        replace(address, prefix="system/node_1/"),
        replace(address, run_id="another"),
        replace(address, tracking_uri=f"sqlite:///{tmp_path}/another.db"),
    ]
    for other in others:
        left = Stream(other, openings.folder, no_tags)
        for step in range(5):
            left.queue.add(sample(step))
        killed(left)
    (openings.folder / f"{address.run_id}-1-00.spool").write_text("damaged")

    last = openings.open()
    openings.add(last, 2)
    openings.send(last)

    openings.assert_each_step_is_there_once()
    assert openings.store.read().latest["key"].step == 1


def test_a_store_that_does_not_answer_leaves_what_was_left_to_others(openings: Openings) -> None:
    path = openings.leave(4)
    last = openings.open()
    openings.add(last, 2)

    with pytest.raises(ConnectionError):
        last.send(ScriptedStore(ConnectionError("refused")))

    Spool.adopt(path).release()
    openings.send(last)
    openings.send_left()
    openings.assert_each_step_is_there_once()


def test_a_run_that_is_resumed_before_its_earlier_opening_is_sent_counts_on(
    bench: UploaderBench,
) -> None:
    store = ScriptedStore(*[ConnectionError("refused")] * 3)
    first = bench.open(store, "1")
    bench.put(first, 0, 1, 2)
    closed(first, 0)
    second = bench.open(store, "1", tags=no_tags)
    bench.put(second, 5, 6)  # times are a second a step

    assert closed(second, 60) == 0

    assert store.limits == Limits()
    assert sorted(store.steps) == [0, 1, 2, 8, 9]
