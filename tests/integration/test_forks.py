"""A forked child neither samples for its parent nor hangs on what its parent's threads held."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from integration.launcher import SCRIPTS

if TYPE_CHECKING:
    from integration.launcher import Launcher

BEGINNING = """
import mlflow, multiprocessing, os, signal, sys, time
from mlflow import MlflowClient
from observation import report, wait_for_samples

mlflow.set_system_metrics_sampling_interval(0.1)

def fork(work):
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(60)  # a child that hangs is killed, which its exit status tells
    try:
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)

def exit_status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.fixture
def on_server(launcher: Launcher, server: str) -> Launcher:
    """Starts scripts that use the server: SQLite's files are not for several processes at once."""
    experiment = {"MLFLOW_EXPERIMENT_NAME": str(launcher.folder)}
    return dataclasses.replace(launcher, tracking_uri=server, variables=experiment)


def test_children_leave_the_run_to_their_parent(on_server: Launcher) -> None:
    """One exits at once, one runs Python's exit handlers, one comes from a pool."""
    outcome = on_server.run(
        BEGINNING
        + """
def work(number):
    MlflowClient().log_metric(run_id, "pooled", number, step=number)

if __name__ == "__main__":
    with mlflow.start_run() as run:
        run_id = run.info.run_id
        wait_for_samples(run_id)
        at_once = exit_status(fork(lambda: None))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(work, range(4))
        wait_for_samples(run_id)
    report(at_once=at_once)
"""
    )
    observation = outcome.observation

    assert observation.notes["at_once"] == 0
    assert [point.value for point in observation.run.series["pooled"]] == [0, 1, 2, 3]
    points = observation.run.system["system_memory_usage_percentage"]
    assert [point.step for point in points] == list(range(len(points)))
    assert observation.samplers == 1
    assert observation.threads_left == []
    assert outcome.warnings == []


def test_a_child_that_opens_its_own_run_samples_for_itself(on_server: Launcher) -> None:
    observation = on_server.run(
        BEGINNING
        + """
def work():
    with mlflow.start_run(run_name="child", nested=True) as run:
        wait_for_samples(run.info.run_id)

with mlflow.start_run(run_name="parent") as parent:
    wait_for_samples(parent.info.run_id)
    child = exit_status(fork(work))
report(child=child)
"""
    ).observation
    parent, child = observation.named("parent"), observation.named("child")

    assert observation.notes["child"] == 0
    for run in (parent, child):
        points = run.system["system_memory_usage_percentage"]
        assert [point.step for point in points] == list(range(len(points)))
        assert len(points) >= 2
        assert run.status == "FINISHED"
        assert run.has_host_tags


def test_a_worker_that_leaves_its_run_open_loses_no_metrics(on_server: Launcher) -> None:
    observation = on_server.run(
        BEGINNING
        + """
def work():
    run = mlflow.start_run(run_name="worker", nested=True)
    wait_for_samples(run.info.run_id)

worker = multiprocessing.get_context("fork").Process(target=work)
with mlflow.start_run(run_name="parent"):
    worker.start()
    worker.join()
report(worker=worker.exitcode)
"""
    ).observation

    assert observation.notes["worker"] == 0
    assert len(observation.named("worker").system["system_memory_usage_percentage"]) >= 2


def test_no_child_hangs_that_was_forked_while_metrics_were_being_sent(on_server: Launcher) -> None:
    outcome = on_server.run(
        BEGINNING
        + """
from mlflow_sysmetrics.delivery import schedule

schedule.FLUSH_INTERVAL_S = 0.01  # send at each sample
mlflow.set_system_metrics_sampling_interval(0.02)

with mlflow.start_run() as run:
    def work():
        MlflowClient().log_metric(run.info.run_id, "from a child", 1.0)

    children = []
    for _ in range(20):
        time.sleep(0.05)
        children.append(fork(work))
    exit_statuses = [exit_status(child) for child in children]
report(exit_statuses=exit_statuses)
"""
    )
    observation = outcome.observation

    assert observation.notes["exit_statuses"] == [0] * 20
    assert len(observation.run.series["from a child"]) == 20
    points = observation.run.system["system_memory_usage_percentage"]
    assert [point.step for point in points] == list(range(len(points)))
    assert outcome.warnings == []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_each_start_method_leave_the_run_alone_and_may_open_their_own(
    on_server: Launcher, method: str
) -> None:
    outcome = on_server.run(SCRIPTS / "start_methods.py", START_METHOD=method)
    observation = outcome.observation

    assert observation.notes == {"numbers": [0, 1, 2, 3], "exit_status": 0}
    assert outcome.warnings == []
    for name in ("parent", "child"):
        run = observation.named(name)
        points = run.system["system_memory_usage_percentage"]
        assert run.status == "FINISHED"
        assert run.has_host_tags
        assert [point.step for point in points] == list(range(len(points)))
        assert len(points) >= 2
