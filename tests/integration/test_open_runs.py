"""Every way to open a run, on every kind of store: the right run gets the right points."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from integration.launcher import SCRIPTS, Launcher, Observation, Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)  # the first test waits for all scenarios

STORES = ("file", "sqlite", "server")
TICK_S = 0.25  # as in the script

MLFLOWS_OWN = {
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_percentage",
    "disk_usage_megabytes",
    "disk_available_megabytes",
    "network_receive_megabytes",
    "network_transmit_megabytes",
}
OF_THE_PROCESS_TREE = {
    "process/cpu_usage_percentage",
    "process/cpu_utilization_percentage",
    "process/memory_rss_megabytes",
    "process/memory_vms_megabytes",
    "process/memory_uss_megabytes",
    "process/memory_usage_percentage",
    "process/num_processes",
    "process/num_threads",
    "process/num_fds",
    "process/io_read_megabytes",
    "process/io_write_megabytes",
}


@pytest.fixture(scope="module")
def played(
    tmp_path_factory: pytest.TempPathFactory, plugin: Path, empty_database: Path, server: str
) -> dict[str, dict[str, Any]]:
    """What the scenarios told, by store and by scenario; the three stores are used side by side."""

    def play(store: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp(f"runs-{store}")
        if store == "sqlite":
            shutil.copy(empty_database, folder / "mlflow.db")
        tracking_uri = {
            "file": str(folder / "mlruns"),
            "sqlite": f"sqlite:///{folder}/mlflow.db",
            "server": server,
        }[store]
        launcher = Launcher(plugin, folder, tracking_uri)
        return launcher.run(SCRIPTS / "ways_to_open_a_run.py").told()

    with ThreadPoolExecutor() as pool:
        return dict(zip(STORES, pool.map(play, STORES), strict=True))


@pytest.fixture(params=STORES)
def observed(
    request: pytest.FixtureRequest, played: dict[str, dict[str, Any]]
) -> Callable[[str], Observation]:
    """Gives what a scenario told, on each store."""

    def get(scenario: str) -> Observation:
        told = played[request.param][scenario]
        assert "failed" not in told, told["failed"]
        observation = Observation.from_json(told)
        assert observation.threads_left == []
        assert not observation.mlflow_sampled
        return observation

    return get


def assert_sampled_throughout(run: Run) -> None:
    """Steps without a gap, rising times, and no more points than there were ticks, and a last."""
    gauge = run.system["system_memory_usage_percentage"]
    sampled_s = (gauge[-1].timestamp_ms - gauge[0].timestamp_ms) / 1000
    steady = [point.step for point in gauge]
    assert steady == list(range(len(steady)))
    assert 2 <= len(steady) <= sampled_s / TICK_S + 3
    for key, points in run.system.items():
        assert {point.step for point in points} <= set(steady), key
        times = [point.timestamp_ms for point in points]
        assert times == sorted(set(times)), key


def test_a_two_second_run_has_its_metrics_when_it_ends(
    observed: Callable[[str], Observation],
) -> None:
    observation = observed("two_seconds_at_the_default_interval")

    assert observation.run.system.keys() >= MLFLOWS_OWN | OF_THE_PROCESS_TREE
    assert {len(points) for points in observation.run.system.values()} == {1}
    assert observation.run.has_host_tags
    assert observation.run.status == "FINISHED"


def test_the_first_cpu_value_is_a_real_one(observed: Callable[[str], Observation]) -> None:
    observation = observed("two_seconds_at_the_default_interval")
    (usage,) = observation.run.system["process/cpu_usage_percentage"]
    (host,) = observation.run.system["cpu_utilization_percentage"]

    assert usage.value == pytest.approx(observation.notes["cpu_percentage"], abs=25)
    assert 0 < host.value <= 100


def test_an_instant_run_gets_tags_alone(observed: Callable[[str], Observation]) -> None:
    run = observed("instant").run

    assert run.has_host_tags
    assert run.series == {} or run.lasted_s >= 1


def test_a_sweep_of_instant_runs_gets_tags_alone(observed: Callable[[str], Observation]) -> None:
    runs = observed("sweep").runs

    assert len(runs) == 50
    assert all(run.has_host_tags for run in runs)
    # On a machine that is busy with other things, some may not be that short.
    without_metrics = [run for run in runs if run.series == {}]
    assert all(run.lasted_s >= 1 for run in runs if run not in without_metrics)
    assert len(without_metrics) > 25


def test_nested_runs_are_sampled_side_by_side(observed: Callable[[str], Observation]) -> None:
    observation = observed("nested")
    parent, child = observation.named("parent"), observation.named("child")

    assert_sampled_throughout(parent)
    assert_sampled_throughout(child)
    assert parent.has_host_tags
    assert child.has_host_tags
    assert observation.samplers == 1


def test_four_threads_share_one_sampler(observed: Callable[[str], Observation]) -> None:
    observation = observed("four_threads")

    assert len(observation.runs) == 4
    for run in observation.runs:
        assert_sampled_throughout(run)
        assert run.has_host_tags
    assert observation.samplers == 1
    assert observation.threads_started.count("mlflow-sysmetrics-uploader") == 1


def test_a_resumed_run_goes_on_and_gets_the_tags_it_lacks(
    observed: Callable[[str], Observation],
) -> None:
    observation = observed("resumed_by_id")
    (run,) = observation.runs

    assert_sampled_throughout(run)
    assert len(run.system["system_memory_usage_percentage"]) > observation.notes["steps_at_first"]
    assert not observation.notes["tagged_at_first"]
    assert run.has_host_tags


@pytest.mark.parametrize("scenario", ["resumed_by_variable", "project"])
def test_a_run_that_another_process_created_is_sampled_and_tagged(
    observed: Callable[[str], Observation], scenario: str
) -> None:
    run = observed(scenario).run

    assert_sampled_throughout(run)
    assert run.has_host_tags
    assert run.status == "FINISHED"


def test_a_run_started_by_log_metric(observed: Callable[[str], Observation]) -> None:
    run = observed("started_by_log_metric").run

    assert_sampled_throughout(run)
    assert run.has_host_tags
    assert [point.value for point in run.series["loss"]] == [0.5, 0.4]


def test_a_run_that_raises_keeps_its_metrics(observed: Callable[[str], Observation]) -> None:
    run = observed("raising").run

    assert run.status == "FAILED"
    assert_sampled_throughout(run)


def test_a_run_opened_in_two_threads_is_sampled_once(
    observed: Callable[[str], Observation],
) -> None:
    observation = observed("same_run_in_two_threads")

    assert_sampled_throughout(observation.run)
    assert observation.samplers == 1


def test_an_autologged_run(observed: Callable[[str], Observation]) -> None:
    run = observed("autologged").run

    assert run.has_host_tags
    assert run.system.keys() >= MLFLOWS_OWN | OF_THE_PROCESS_TREE
    assert "training_score" in run.series


def test_only_the_parent_of_a_grid_search_is_sampled(
    observed: Callable[[str], Observation],
) -> None:
    observation = observed("grid_search")
    children = [run for run in observation.runs if "mlflow.parentRunId" in run.tags]
    (parent,) = (run for run in observation.runs if run not in children)

    assert len(children) == 3
    assert parent.system.keys() >= MLFLOWS_OWN
    assert all(child.system == {} for child in children)
    assert observation.samplers == 1
