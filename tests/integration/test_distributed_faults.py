"""What befalls a training on several hosts harms neither it nor its run, nor another's."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from fakes.waiting import eventually
from integration.gate import Answer, everything
from integration.launcher import SCRIPTS, Launcher
from integration.servers import free_port
from integration.training import (
    RANK,
    START_RANKS,
    TORCHRUN,
    Training,
    as_user,
    nodes_of,
    on_host,
    points_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from integration.gate import Gate
    from integration.servers import TrackingServer

    StartTraining = Callable[..., Training]

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray and others are not installed; scripts/test.py --frameworks installs them",
    ),
    pytest.mark.timeout(240),
]

A, B = "lab-a", "lab-b"


@pytest.fixture
def start(tmp_path: Path, plugin: Path, tracking_server: TrackingServer) -> Iterator[StartTraining]:
    """Begins a training; nothing is started yet."""
    launcher = Launcher(plugin, tmp_path, tracking_server.address)
    with ExitStack() as started:
        yield lambda **variables: started.enter_context(
            Training.of(launcher, tracking_server.store_uri, **variables)
        )


@pytest.fixture
def training(start: StartTraining) -> Training:
    return start()


def ranks(
    node: int, count: int = 1, run_id: str = "a-job", script: Path = RANK
) -> list[str | Path]:
    """The ranks of one of two hosts, as torchrun starts them."""
    return [sys.executable, START_RANKS, run_id, str(node), "2", str(count), script]


def statuses(training: Training) -> list[int]:
    return [outcome.exit_status for outcome in training.outcomes]


def test_another_process_samples_when_the_one_that_did_is_killed(training: Training) -> None:
    training.start(ranks(0), A)
    training.start(ranks(1, 3), B)
    training.wait_for_points("0", "1")
    training.tell(f"kill-holder-on-{B}")
    eventually((training.told / f"did-kill-holder-on-{B}").exists)
    before = len(points_of(training.run, "1"))
    training.wait_for_points("1", count=before + 3)
    run = training.end()

    times_ms = [point.timestamp_ms for point in points_of(run, "1")]
    steps = [point.step for point in points_of(run, "1")]
    assert len(times_ms) == len(set(times_ms))
    assert nodes_of(run) == {"0", "1"}
    assert run.status == "FINISHED"
    assert steps == sorted(set(steps))
    assert times_ms == sorted(times_ms)


def test_other_hosts_leave_the_run_of_a_killed_rank_0_as_it_is(training: Training) -> None:
    training.start(ranks(0), A)
    training.start(ranks(1), B)
    training.wait_for_points("0", "1")
    training.tell("kill-0")
    eventually((training.told / "did-kill-0").exists)
    run = training.end()

    assert run.status == "RUNNING"
    assert statuses(training) == [-9 % 256, 0]


def test_an_elastic_restart_gives_the_next_run_all_hosts(training: Training) -> None:
    port = free_port()
    for node, host in enumerate((A, B)):
        endpoint = ("--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", f"127.0.0.{node + 1}")
        elastic = ("--nnodes", "2", "--max-restarts", "1", "--rdzv-backend", "c10d", *endpoint)
        training.start((*TORCHRUN, *elastic, "--monitor-interval", "0.5", RANK), host)
    training.wait_for_points("0", "1")
    training.tell("kill-1")
    eventually(lambda: len(training.runs) == 2)
    name = training.runs[1].name
    training.wait_for_points("0", "1", name=name)
    training.tell("end")
    training.wait()

    first, second = training.runs
    assert (nodes_of(first), nodes_of(second)) == ({"0", "1"}, {"0", "1"})
    assert second.status == "FINISHED"
    assert statuses(training) == [0, 0]


def test_jobs_on_the_same_hosts_keep_apart(start: StartTraining) -> None:
    trainings = {job: start() for job in ("one-job", "another-job")}
    for job, training in trainings.items():
        for node, host in enumerate((A, B)):
            training.start(on_host(host, ranks(node, run_id=job), alone=False))
    for training in trainings.values():
        training.wait_for_points("0", "1")
    runs = [training.end() for training in trainings.values()]

    assert [nodes_of(run) for run in runs] == [{"0", "1"}, {"0", "1"}]
    assert {
        point.value for run in runs for node in ("0", "1") for point in points_of(run, node)
    } <= {1, 2}  # the agent and its rank; a rank may still be starting
    assert [run.status for run in runs] == ["FINISHED", "FINISHED"]


def test_all_runs_of_a_job_show_all_hosts(training: Training) -> None:
    script = SCRIPTS / "rank_of_several_runs.py"
    training.start(ranks(0, script=script), A)
    training.start(ranks(1, script=script), B)
    training.wait_for_points("0", "1", name="first")
    training.tell("next")
    training.wait_for_points("0", "1", name="second")
    training.tell("nested")
    training.wait_for_points("0", name="nested")
    counts = {run.name: len(points_of(run, "1")) for run in training.runs}
    training.wait_for_points("1", name="second", count=counts["second"] + 2)
    training.tell("end")
    training.wait()

    runs = {run.name: run for run in training.runs}
    assert {run.status for run in runs.values()} == {"FINISHED"}
    assert nodes_of(runs["first"]) == nodes_of(runs["second"]) == {"0", "1"}
    assert statuses(training) == [0, 0]


def test_a_host_that_could_not_reach_the_server_joins_a_run_that_opened_late(
    training: Training, gate: Gate
) -> None:
    gate.shut()
    training.start(ranks(0), A, OPENS_AFTER_S="5")
    training.start(ranks(1), B, MLFLOW_TRACKING_URI=gate.address)
    training.wait_for_points("0")
    gate.open()
    training.wait_for_points("0", "1")
    run = training.end()

    assert nodes_of(run) == {"0", "1"}
    assert run.status == "FINISHED"
    assert statuses(training) == [0, 0]


def test_a_host_whose_server_does_not_answer_trains_on(training: Training) -> None:
    training.start(ranks(0), A)
    training.start(ranks(1), B, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}")
    training.wait_for_points("0", count=8)
    run = training.end()

    assert nodes_of(run) == {"0"}
    assert run.status == "FINISHED"
    assert statuses(training) == [0, 0]


@pytest.mark.parametrize("status", [401, 403])
def test_a_host_whose_token_is_refused_asks_once_and_says_so(
    training: Training, gate: Gate, status: int
) -> None:
    gate.judge = everything(Answer(status, error_code="PERMISSION_DENIED"))
    training.start(ranks(0), A)
    training.start(ranks(1), B, MLFLOW_TRACKING_URI=gate.address)
    training.wait_for_points("0")
    eventually(lambda: gate.seen)
    training.wait_for_points("0", count=10)
    run = training.end()

    assert len(gate.seen) == 1
    assert nodes_of(run) == {"0"}
    assert run.status == "FINISHED"
    assert len(training.said) == 1
    assert "are not in the job's run" in training.said[0]
    assert statuses(training) == [0, 0]


def test_of_two_jobs_with_one_address_the_second_joins_none(start: StartTraining) -> None:
    first = start(MASTER_PORT="29500")
    first.start(ranks(0, run_id="none"), A)
    first.start(ranks(1, run_id="none"), B)
    first.wait_for_points("0", "1")
    second = start(MASTER_PORT="29500", MLFLOW_EXPERIMENT_NAME=first.experiment, RUN_NAME="second")
    second.start(ranks(0, run_id="none"), "lab-c")
    second.start(ranks(1, run_id="none"), "lab-d")
    second.wait_for_points("0", name="second", count=8)
    for training in (first, second):
        training.tell("end")
        training.wait()

    (run_of_first,) = (run for run in first.runs if run.name != "second")
    (run_of_second,) = (run for run in first.runs if run.name == "second")
    assert "lab-d" not in run_of_first.tags["sys.nodes"]
    assert nodes_of(run_of_first) == {"0", "1"}
    assert nodes_of(run_of_second) == {"0"}
    assert any("same address and port" in said for said in second.said)
    assert statuses(first) == statuses(second) == [0, 0]


def test_jobs_of_two_users_with_one_address_keep_apart(start: StartTraining) -> None:
    first = start(MASTER_PORT="29500", RUN_NAME="first")
    second = start(MASTER_PORT="29500", MLFLOW_EXPERIMENT_NAME=first.experiment, RUN_NAME="second")
    # Not by both at once, of which MLflow lets one fail.
    MlflowClient(first.launcher.tracking_uri).create_experiment(first.experiment)
    for node, host in enumerate((A, B)):
        first.start(ranks(node, run_id="none"), host)
        second.start(as_user(1234, ranks(node, run_id="none")), f"{host}-of-another")
    first.wait_for_points("0", "1", name="first")
    second.wait_for_points("0", "1", name="second")
    for training in (first, second):
        training.tell("end")
        training.wait()

    runs = {run.name: run for run in first.runs}
    assert "of-another" not in runs["first"].tags["sys.nodes"]
    assert f"{A}-of-another" in runs["second"].tags["sys.nodes"]
    assert f"{B}-of-another" in runs["second"].tags["sys.nodes"]
    assert {run.status for run in runs.values()} == {"FINISHED"}
