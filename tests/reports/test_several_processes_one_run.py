"""Several processes, on one host or on two, that log to one run: never two in one series."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.entities import Metric

SAMPLED = "system_memory_usage_percentage"
TREE = "process/num_processes"
_PATIENCE_S = 60.0

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed as POSIX does"),
]

SEND_AT_ONCE = """
from mlflow_sysmetrics.delivery import schedule
schedule.FLUSH_INTERVAL_S = 0.2
"""

JOIN = (
    SEND_AT_ONCE
    + """
import platform, sys
if len(sys.argv) > 1:
    platform.node = lambda: sys.argv[1]  # all that tells another host on this one
import mlflow
with mlflow.start_run():
    print("joined", flush=True)
    sys.stdin.readline()
"""
)

POOL = """
import multiprocessing, os, sys, time
import mlflow

def work(number):
    mlflow.log_metric(f"worker_{number}", number)
    time.sleep(1)

if __name__ == "__main__":
    with mlflow.start_run() as run:
        os.environ["MLFLOW_RUN_ID"] = run.info.run_id
        workers = multiprocessing.get_context(sys.argv[1]).Pool(2)
        workers.map(work, range(2), chunksize=1)
    time.sleep(3)
    workers.close()
    workers.join()
"""

TWO_MONITORS = """
import subprocess, time
import mlflow
from mlflow_sysmetrics import ProcessMetricsMonitor

sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
with mlflow.start_run():
    monitors = [
        ProcessMetricsMonitor(each.pid, sampling_interval=0.2, prefix="server/")
        for each in sleepers
    ]
    for monitor in monitors:
        monitor.start()
    time.sleep(1)
    for monitor in monitors:
        monitor.finish()
for each in sleepers:
    each.kill()
    each.wait()
"""


class Job:
    """Processes that log to one run, in a store of their own."""

    def __init__(self, folder: Path, empty_database: Path) -> None:
        (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
        self.client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        self.run_id = self.client.create_run("0").info.run_id
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        file = self._folder / f"script-{len(self._started)}.py"
        file.write_text(script)
        kept = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
        ours = {
            "MLFLOW_RUN_CONTEXT_PROVIDER": "sysmetrics,sysmonitor",
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
            "MLFLOW_TRACKING_URI": self.client.tracking_uri,
            "MLFLOW_SYSMETRICS_SPOOL_DIR": str(self._folder / "spool"),
        }
        process = subprocess.Popen(
            [sys.executable, file, *arguments],
            env=kept | ours | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def join(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start a process; it has joined the run when this returns."""
        process = self.start(JOIN, *arguments, MLFLOW_RUN_ID=self.run_id, **variables)
        assert process.stdout is not None
        if not any(line == "joined\n" for line in process.stdout):
            raise AssertionError(process.communicate()[1])
        return process

    def points(self, key: str, run_id: str | None = None) -> list[Metric]:
        """All points below `system/`, in the order of their times."""
        history = self.client.get_metric_history(run_id or self.run_id, f"system/{key}")
        return sorted(history, key=lambda point: point.timestamp)

    def steps(self, key: str = SAMPLED, run_id: str | None = None) -> list[int]:
        return [point.step for point in self.points(key, run_id)]

    def wait_for_points(self, count: int) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while len(self.steps()) < count:
            assert time.monotonic() < deadline_s
            time.sleep(0.2)

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def job(tmp_path: Path, empty_database: Path) -> Iterator[Job]:
    job = Job(tmp_path, empty_database)
    try:
        yield job
    finally:
        job.end()


def warnings_of(process: subprocess.Popen[str]) -> list[str]:
    """Let a process go on to its end; what the plugin has said in it."""
    _, said = process.communicate("\n", timeout=_PATIENCE_S)
    assert process.returncode == 0, said
    return [line for line in said.splitlines() if "mlflow-sysmetrics:" in line]


def in_a_row(steps: list[int]) -> bool:
    """Whether no step is missing, and none is there twice, in the order of time."""
    return bool(steps) and steps == list(range(steps[0], steps[0] + len(steps)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_that_join_the_run_are_in_the_tree_of_the_one_that_opened_it(
    job: Job, method: str
) -> None:
    assert warnings_of(job.start(POOL, method)) == []

    (run,) = (each for each in job.client.search_runs(["0"]) if "worker_0" in each.data.metrics)
    points = job.points(TREE, run.info.run_id)
    assert in_a_row([point.step for point in points])
    assert max(point.value for point in points) >= 3
    assert min(point.value for point in points) >= 2  # no series of a worker alone
    # The workers lived on for three seconds, with the run open in each.
    assert points[-1].timestamp <= run.info.end_time + 2000


def test_one_of_several_processes_beside_each_other_samples_and_one_says_so(job: Job) -> None:
    processes = [job.join() for _ in range(3)]
    job.wait_for_points(2)

    said = [line for process in processes for line in warnings_of(process)]

    assert in_a_row(job.steps())
    (sentence,) = said
    assert f"Process {processes[0].pid} samples for all" in sentence
    assert "mlflow-sysmetrics watch" in sentence


@pytest.mark.parametrize("end", ["killed", "in good order"])
def test_when_the_one_that_samples_ends_another_goes_on(job: Job, end: str) -> None:
    first, second = job.join(), job.join()
    job.wait_for_points(2)
    if end == "killed":
        first.send_signal(signal.SIGKILL)
        first.wait()
    else:
        warnings_of(first)
    before = len(job.steps())

    job.wait_for_points(before + 2)
    warnings_of(second)

    steps = job.steps()
    assert len(steps) > before
    assert in_a_row(steps)


@pytest.mark.parametrize("node_id", ["", "node-1"])
def test_two_hosts_with_one_name_or_none_are_kept_apart_and_it_is_said(
    job: Job, node_id: str
) -> None:
    prefix = f"{node_id}/" if node_id else ""
    first = job.join("gpu-1", MLFLOW_SYSTEM_METRICS_NODE_ID=node_id)
    second = job.join("gpu-2", MLFLOW_SYSTEM_METRICS_NODE_ID=node_id)
    deadline_s = time.monotonic() + _PATIENCE_S
    while not _own_series(job) and time.monotonic() < deadline_s:
        time.sleep(0.5)

    said = [line for process in (first, second) for line in warnings_of(process)]

    assert any("MLFLOW_SYSTEM_METRICS_NODE_ID" in line for line in said), said
    own = _own_series(job)
    assert own
    assert all(in_a_row(job.steps(key)) for key in own)
    assert job.steps(prefix + SAMPLED)


def _own_series(job: Job) -> list[str]:
    metrics = job.client.get_run(job.run_id).data.metrics
    keys = [key.removeprefix("system/") for key in metrics if key.endswith(f"/{SAMPLED}")]
    return [key for key in keys if "gpu-1-" in key or "gpu-2-" in key]


def test_two_hosts_with_names_of_their_own_are_not_spoken_of(job: Job) -> None:
    processes = [job.join(name, MLFLOW_SYSTEM_METRICS_NODE_ID=name) for name in ("a", "b")]

    assert [line for process in processes for line in warnings_of(process)] == []
    assert in_a_row(job.steps(f"a/{SAMPLED}"))
    assert in_a_row(job.steps(f"b/{SAMPLED}"))


def test_two_monitors_of_a_process_do_not_mix_in_one_series(job: Job) -> None:
    said = warnings_of(job.start(TWO_MONITORS))

    (run,) = (each for each in job.client.search_runs(["0"]) if each.info.run_id != job.run_id)
    assert in_a_row(job.steps("server/num_processes", run.info.run_id))
    (sentence,) = said
    assert "give it another prefix" in sentence
