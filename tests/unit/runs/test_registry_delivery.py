"""Runs that cannot be delivered: what their end costs, and what is kept."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fakes.scripted_store import ScriptedStore
from fakes.simulation import LONG_S, join_threads
from mlflow_sysmetrics.delivery import channel as channel_module
from mlflow_sysmetrics.delivery import schedule as schedule_module
from mlflow_sysmetrics.delivery import uploader as uploader_module
from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.spool import Spool, owned_files, spool_files
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.runs.registry import OpenRun, RunRequest, open_run
from mlflow_sysmetrics.sampling.recorder import Recorder
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.sampler import Sampler
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.delivery.run_address import RunAddress
    from mlflow_sysmetrics.delivery.run_store import Limits

pytestmark = pytest.mark.usefixtures("nothing_said")


class Collector:
    """One gauge; tells how often it was asked, and may hang."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._asked = threading.Semaphore(0)

    def collect(self) -> dict[str, float]:
        self._asked.release()
        assert self.goes_on.wait(LONG_S)
        return {"disk_usage_megabytes": 5.0}

    def has_been_asked(self, times: int) -> None:
        for _ in range(times):
            assert self._asked.acquire(timeout=LONG_S)

    def close(self) -> None:
        """Nothing to do."""


class Bench:
    """A process without open runs, whose stores are scripted."""

    def __init__(self, mocker: MockerFixture, folder: Path) -> None:
        self.folder = folder
        self.collector = Collector()
        self.collectors = CollectorSet(Host(), lambda: (("scripted", lambda _: self.collector),))
        self.stores: dict[str, ScriptedStore] = {}
        self.over = threading.Event()
        mocker.patch.object(registry, "_this_process", registry._ThisProcess())
        mocker.patch.object(registry, "atexit")
        mocker.patch.object(uploader_module, "open_store", self.open_store)

    def open_store(self, address: RunAddress, limits: Limits) -> ScriptedStore:
        return self.stores.setdefault(address.run_id, ScriptedStore(*[self.hang] * 10))

    def hang(self) -> None:
        assert self.over.wait(LONG_S)

    def opens(
        self, run_id: str, flush_timeout_s: float = 0.2, *, poll_status: bool = False
    ) -> OpenRun:
        """Open a run on a store of its own; by default on one that hangs."""
        settings = Settings(
            sampling_interval_s=0.01, flush_timeout_s=flush_timeout_s, spool_dir=self.folder
        )
        uri = f"http://store-{run_id}"
        return open_run(
            RunRequest(
                run_id,
                uri,
                settings,
                collectors=self.collectors,
                resumed=False,
                poll_status=poll_status,
            )
        )


@pytest.fixture
def bench(mocker: MockerFixture, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(mocker, tmp_path)
    yield bench
    bench.collector.goes_on.set()
    bench.over.set()
    for name in ("sampler", "uploader"):
        join_threads(f"mlflow-sysmetrics-{name}")
    owned_files.disown_all()


def noting(mocker: MockerFixture, method: Callable[..., object]) -> list[float]:
    """The timeouts that a method is called with."""
    timeouts_s: list[float] = []

    def note(self: object, *arguments: Any) -> object:  # noqa: ANN401 - as the method's
        timeouts_s.append(arguments[-1])
        return method(self, *arguments)

    owner = {"finish": Sampler, "close": Channel}[method.__name__]
    mocker.patch.object(owner, method.__name__, note)
    return timeouts_s


def test_runs_on_dead_stores_share_one_timeout_at_exit_and_are_all_kept(
    bench: Bench, mocker: MockerFixture
) -> None:
    timeouts_s = noting(mocker, Channel.close)
    for number in range(5):
        bench.opens(str(number))
    bench.collector.has_been_asked(5)

    registry._this_process.close_all()

    assert timeouts_s[0] <= 0.1
    assert all(timeout_s <= 0.0 for timeout_s in timeouts_s[1:])
    assert len(spool_files(bench.folder)) == 5
    bench.over.set()
    join_threads("mlflow-sysmetrics-uploader")
    assert all(store.stored for store in bench.stores.values())
    assert spool_files(bench.folder) == []


def test_a_collector_that_hangs_costs_all_runs_one_timeout_at_exit(
    bench: Bench, mocker: MockerFixture
) -> None:
    timeouts_s = noting(mocker, Sampler.finish)
    for number in range(5):
        bench.opens(str(number))
    bench.collector.has_been_asked(5)
    bench.collector.goes_on.clear()
    bench.collector.has_been_asked(1)

    registry._this_process.close_all()

    assert timeouts_s[0] <= 0.2
    assert timeouts_s[1:] == [0.0] * 4


def test_a_collector_that_hangs_costs_the_last_sample_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    store = bench.stores["1"] = ScriptedStore()
    run = bench.opens("1", flush_timeout_s=4.0)
    bench.collector.has_been_asked(5)
    bench.collector.goes_on.clear()
    bench.collector.has_been_asked(1)

    run.close()

    assert len(store.stored) >= 3
    assert caplog.messages == []


def test_a_disk_that_hangs_holds_up_neither_sampling_nor_the_end_of_a_run(
    bench: Bench, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    def hang(*_: object) -> None:
        bench.hang()
        raise OSError("the network is back, the file is not")

    mocker.patch.object(Spool, "create", hang)
    mocker.patch("mlflow_sysmetrics.delivery.stream._UNPERSISTED_MS", 0)
    mocker.patch.object(channel_module, "SAVE_TIMEOUT_S", 0.1)
    runs = [bench.opens(str(number)) for number in range(3)]
    bench.collector.has_been_asked(10)

    runs[0].close()
    registry._this_process.close_all()

    assert len(caplog.messages) == 3
    assert all("are in memory only" in message for message in caplog.messages)


def test_a_run_on_a_dead_store_holds_no_other_up(bench: Bench) -> None:
    bench.stores["well"] = ScriptedStore()
    dead, well = bench.opens("dead"), bench.opens("well", flush_timeout_s=LONG_S)
    bench.collector.has_been_asked(5)
    dead.close()

    well.close()

    assert bench.stores["well"].stored
    assert len(spool_files(bench.folder)) == 1


def test_a_run_that_was_ended_by_others_is_sampled_no_more(
    bench: Bench, mocker: MockerFixture
) -> None:
    mocker.patch.object(schedule_module, "STATUS_INTERVAL_S", 0.05)
    mocker.patch.object(schedule_module, "FLUSH_INTERVAL_S", 0.02)
    mocker.patch.object(schedule_module, "_SLACK_S", 0.0)
    store = bench.stores["1"] = ScriptedStore()
    run = bench.opens("1", poll_status=True)
    bench.collector.has_been_asked(5)

    store.has_ended = True
    join_threads("mlflow-sysmetrics-sampler")
    join_threads("mlflow-sysmetrics-uploader")

    assert store.stored
    run.close()  # is nothing any more


FORKS = """
import os, sys, time
from pathlib import Path
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.delivery.spool import Spool, SpoolError, owned_files, spool_files
from mlflow_sysmetrics.runs.registry import RunRequest, open_run
from mlflow_sysmetrics.settings import Settings

def opened(number, folder):
    settings = Settings(sampling_interval_s=0.05, flush_timeout_s=0.2, spool_dir=folder)
    uri = f"http://127.0.0.1:{number}"
    run = open_run(RunRequest(f"run-{number}", uri, settings, resumed=False))
    while not run.recorder._sink.task.stream.unsent:
        time.sleep(0.01)
    run.recorder._sink.task.stream.persist()
    return run

def adopt(path):
    try:
        return Spool.adopt(path)
    except SpoolError as reason:
        return reason

folder = Path(sys.argv[1])
runs = [opened(number, folder / "parent") for number in (1, 2)]
assert len(registry._this_process.runs._uploaders) == 2
child = os.fork()
if child == 0:
    assert not owned_files.by_path
    print("child:", *{str(adopt(path)) for path in spool_files(folder / "parent")}, flush=True)
    for run in runs:
        run.close()  # nothing of the child's
    opened(3, folder / "child").close()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
print("parent:", *{str(adopt(path)) for path in spool_files(folder / "parent")}, flush=True)
for run in runs:
    run.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
def test_a_forked_child_has_runs_and_files_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_S,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "child: another process is sending it",
        "parent: this process is sending it",
    ]
    left = {name: spool_files(tmp_path / name) for name in ("parent", "child")}
    assert {name: len(paths) for name, paths in left.items()} == {"parent": 2, "child": 1}
    for path in [*left["parent"], *left["child"]]:
        spool = Spool.adopt(path)
        steps = [sample.step for sample in spool.unsent()]
        assert steps == list(range(len(steps)))
        assert steps
        spool.release()


def test_the_last_sample_is_on_its_way_while_mlflow_ends_the_run(bench: Bench) -> None:
    run = bench.opens("1")
    bench.collector.has_been_asked(10)
    assert isinstance(run.recorder, Recorder)

    registry.begin_to_end("another")
    assert run.recorder._stopping is None
    registry.begin_to_end("1")

    assert run.recorder._stopping is not None
    run.recorder._stopping.join(LONG_S)
    channel = run.recorder._sink
    assert isinstance(channel, Channel)
    assert channel.task.closing
    run.close()


def test_a_run_that_is_open_twice_is_sampled_until_the_last_end(bench: Bench) -> None:
    runs = [bench.opens("1"), bench.opens("1")]

    registry.begin_to_end("1")

    assert isinstance(runs[0].recorder, Recorder)
    assert runs[0].recorder._stopping is None
    for run in runs:
        run.close()
