"""The runs of Lightning's and PyTorch Lightning's `MLFlowLogger`, with the real libraries."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from integration.launcher import SCRIPTS, Launcher, Observation, Run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("lightning") is None,
        reason="Lightning is not installed; scripts/test.py --frameworks installs it",
    ),
    pytest.mark.timeout(240),  # the first test waits for all trainings
]

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
TRAINED_MS = 8 * 150  # as in the script

TRAININGS: dict[str, dict[str, Any]] = {
    "monitored": {},
    "failing": {"failing": True},
    "sysmonitor off": {"providers": "sysmetrics"},
    "callback": {"providers": "", "callback": True},
    "callback, failing": {"providers": "", "callback": True, "failing": True},
    "callback, two loggers": {"providers": "", "callback": True, "loggers": 2},
    "callback and sysmonitor": {"callback": True},
    "callback, resumed": {"callback": True, "resumed": True},
    "callback, then a test": {"callback": True, "tested": True},
}


def trained(launcher: Launcher, package: str, trainings: dict[str, Any]) -> dict[str, Observation]:
    script = SCRIPTS / "lightning_trainings.py"
    outcome = launcher.run(script, PACKAGE=package, TRAININGS=json.dumps(trainings))
    return {name: Observation.from_json(observed) for name, observed in outcome.told().items()}


@pytest.fixture(scope="module", params=PACKAGES)
def observed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    plugin: Path,
    empty_database: Path,
) -> dict[str, Observation]:
    """What became of the trainings with each package, all in one process."""
    folder = tmp_path_factory.mktemp("lightning")
    shutil.copy(empty_database, folder / "mlflow.db")
    launcher = Launcher(plugin, folder, f"sqlite:///{folder}/mlflow.db")
    return trained(launcher, request.param, TRAININGS)


def was_sampled(run: Run) -> bool:
    """Whether points are there from about the first batch to the last, each once."""
    points = run.system.get("system_memory_usage_megabytes", [])
    steps = [point.step for point in points]
    lasted_ms = points[-1].timestamp_ms - points[0].timestamp_ms if points else 0
    return lasted_ms > TRAINED_MS / 2 and len(set(steps)) == len(steps)


@pytest.mark.parametrize(
    ("training", "status"),
    [
        ("monitored", "FINISHED"),
        ("failing", "FAILED"),
        ("callback", "FINISHED"),
        ("callback, failing", "FAILED"),
        ("callback and sysmonitor", "FINISHED"),
        ("callback, resumed", "FINISHED"),
    ],
)
def test_the_run_of_a_logger_is_sampled_while_it_trains(
    observed: dict[str, Observation], training: str, status: str
) -> None:
    observation = observed[training]

    assert was_sampled(observation.run)
    assert observation.run.status == status
    assert (observation.notes["raised"] is not None) == (status == "FAILED")
    assert observation.samplers == 1
    assert observation.threads_left == []


def test_it_is_not_where_sysmonitor_is_switched_off(observed: dict[str, Observation]) -> None:
    observation = observed["sysmonitor off"]

    assert observation.run.has_host_tags
    assert observation.run.system == {}
    assert observation.samplers == 0


@pytest.mark.parametrize("training", ["monitored", "callback, resumed"])
def test_it_is_tagged(observed: dict[str, Observation], training: str) -> None:
    assert observed[training].run.has_host_tags


def test_the_callback_monitors_the_runs_of_all_loggers(observed: dict[str, Observation]) -> None:
    observation = observed["callback, two loggers"]

    assert [was_sampled(run) for run in observation.runs] == [True, True]
    assert observation.samplers == 1


def test_the_callback_monitors_a_second_stage(observed: dict[str, Observation]) -> None:
    observation = observed["callback, then a test"]

    (*_, last) = observation.run.system["system_memory_usage_megabytes"]
    assert last.timestamp_ms >= observation.notes["fitted_ms"] + TRAINED_MS
    assert was_sampled(observation.run)


@pytest.mark.parametrize(
    ("strategy", "callback"),
    [("ddp", False), ("ddp_fork", False), ("ddp_spawn", True)],
)
def test_of_two_ranks_only_the_first_samples(
    launcher: Launcher, server: str, strategy: str, *, callback: bool
) -> None:
    launcher = dataclasses.replace(launcher, tracking_uri=server)  # SQLite is for one process
    training = {"strategy": strategy, "devices": 2, "callback": callback}

    (observation,) = trained(launcher, PACKAGES[0], {str(launcher.folder): training}).values()

    samplers = {path.name: path.read_text() for path in launcher.folder.glob("samplers-of-rank-*")}
    assert samplers == {"samplers-of-rank-0": "1", "samplers-of-rank-1": "0"}
    assert was_sampled(observation.run)
    assert observation.run.status == "FINISHED"
    assert observation.threads_left == []
