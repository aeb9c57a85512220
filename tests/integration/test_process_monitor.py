"""`ProcessMetricsMonitor` on real runs: whose metrics, in which run, from when to when."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from integration.launcher import SCRIPTS, Launcher, Observation, Point

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)  # the first test waits for all scenarios

TICK_S = 0.25  # as in the script
IN_EVERY_POINT = {
    "process/cpu_usage_percentage",
    "process/cpu_utilization_percentage",
    "process/memory_rss_megabytes",
    "process/memory_vms_megabytes",
    "process/memory_usage_percentage",
    "process/num_processes",
    "process/num_threads",
    "process/num_fds",
    "process/io_read_megabytes",
    "process/io_write_megabytes",
}


class Played(NamedTuple):
    """What the scenarios told, by name, and what the plugin said."""

    observations: dict[str, Observation]
    warnings: list[str]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, plugin: Path, empty_database: Path) -> Played:
    folder = tmp_path_factory.mktemp("process-monitors")
    shutil.copy(empty_database, folder / "mlflow.db")
    launcher = Launcher(plugin, folder, f"sqlite:///{folder}/mlflow.db")
    outcome = launcher.run(SCRIPTS / "process_monitors.py", "sysmonitor")
    told = outcome.told()
    failures = [scenario["failed"] for scenario in told.values() if "failed" in scenario]
    assert not failures, "\n".join(failures)
    observations = {name: Observation.from_json(each) for name, each in told.items()}
    return Played(observations, outcome.warnings)


def series_of(observation: Observation, prefix: str = "process/") -> dict[str, list[Point]]:
    """The series under a prefix; each has at most one point a step, and the steps have no gap."""
    assert observation.threads_left == []
    system = observation.run.system
    series = {key: points for key, points in system.items() if key.startswith(prefix)}
    steps = [point.step for point in series[f"{prefix}num_threads"]]
    assert steps == list(range(steps[0], steps[0] + len(steps)))
    for key, points in series.items():
        assert len({point.step for point in points}) == len(points), key
        times = [point.timestamp_ms for point in points]
        assert times == sorted(set(times)), key
    return series


def mean(points: list[Point]) -> float:
    return sum(point.value for point in points) / len(points)


def test_it_logs_the_process_and_nothing_of_the_host(played: Played) -> None:
    observation = played.observations["all_arguments_by_position"]

    series = series_of(observation)
    assert series.keys() >= IN_EVERY_POINT
    assert series == observation.run.system
    assert all(point.value == 1 for point in series["process/num_processes"])


def test_arguments_by_position_have_their_effect(played: Played) -> None:
    observation = played.observations["all_arguments_by_position"]
    series = series_of(observation)
    usage, share = (series[f"process/cpu_{what}_percentage"] for what in ("usage", "utilization"))
    rss, of_memory = (
        series[f"process/memory_{what}"] for what in ("rss_megabytes", "usage_percentage")
    )

    assert mean(usage) == pytest.approx(observation.notes["cpu_percentage"], abs=20)
    for points, expected, factor in ((share, usage, 1 / 4), (of_memory, rss, 1 / 10)):
        assert [point.value for point in points] == pytest.approx(
            [point.value * factor for point in expected], abs=0.01
        )


def test_two_samples_make_a_point_where_that_is_asked(played: Played) -> None:
    observation = played.observations["all_arguments_by_position"]
    points = series_of(observation)["process/num_threads"]

    assert len(points) <= observation.run.lasted_s / (2 * TICK_S) + 1


def test_its_attributes_tell_what_it_does(played: Played) -> None:
    notes = played.observations["all_arguments_by_position"].notes

    assert notes["samples_in"] == "mlflow-sysmetrics-sampler"
    assert notes["is_of_the_run"]
    assert not notes["shut_down_while_running"]
    assert notes["shut_down_at_the_end"]


def test_as_an_asynchronous_context_it_logs_from_entry_to_exit(played: Played) -> None:
    series = series_of(played.observations["asynchronous"])

    assert series.keys() >= IN_EVERY_POINT


def test_children_may_be_left_out(played: Played) -> None:
    series = series_of(played.observations["without_children"])

    assert {point.value for point in series["process/num_processes"]} == {1.0}
    assert mean(series["process/cpu_usage_percentage"]) < 50  # the child burns a core


def test_another_process_has_its_own_prefix_beside_sysmonitor(played: Played) -> None:
    observation = played.observations["a_child_beside_sysmonitor"]
    tree, loader = series_of(observation), series_of(observation, "loader/")

    assert loader["loader/num_processes"][0].value == 1
    assert tree["process/num_processes"][0].value == 2
    assert mean(loader["loader/cpu_usage_percentage"]) == pytest.approx(
        observation.notes["cpu_percentage"], abs=20
    )
    assert "system_memory_usage_percentage" in observation.run.system
    assert observation.samplers == 1


def test_what_sysmonitor_logs_is_not_logged_twice(played: Played) -> None:
    series = series_of(played.observations["itself_beside_sysmonitor"])

    assert series.keys() >= IN_EVERY_POINT
    (warning,) = played.warnings
    assert "already logs metrics of the same names to this run" in warning


def test_it_ends_with_the_process_and_logs_no_zeros(played: Played) -> None:
    observation = played.observations["a_child_that_dies"]
    series = series_of(observation)

    assert observation.notes == {"ended": True, "has_thread": False}
    assert series.keys() >= IN_EVERY_POINT
    for what in ("num_processes", "num_threads", "memory_rss_megabytes", "memory_vms_megabytes"):
        assert min(point.value for point in series[f"process/{what}"]) > 0, what
    assert min(point.value for point in series["process/cpu_usage_percentage"]) > 0


def test_a_run_that_is_named_need_not_be_active(played: Played) -> None:
    observation = played.observations["into_a_named_run"]

    assert series_of(observation).keys() >= IN_EVERY_POINT
    assert observation.run.status == "RUNNING"


def test_the_run_may_be_in_another_store(played: Played) -> None:
    observation = played.observations["into_another_store"]

    assert {f"system/{key}" for key in IN_EVERY_POINT} <= set(observation.notes["elsewhere"])
    assert observation.runs == []
    assert observation.threads_left == []


def test_collecting_and_publishing_may_be_done_by_hand(played: Played) -> None:
    observation = played.observations["by_hand"]
    collected = observation.notes["collected"]

    assert {f"process/{key}" for key in collected} >= IN_EVERY_POINT
    assert observation.notes["step"] == 2
    assert {
        key.removeprefix("mine/"): [(point.step, point.value) for point in points]
        for key, points in observation.run.system.items()
    } == {key: [(0, value), (1, value)] for key, value in collected.items()}
    assert observation.threads_started == []
