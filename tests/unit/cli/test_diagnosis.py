from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_sysmetrics import settings
from mlflow_sysmetrics.cli import diagnosis
from mlflow_sysmetrics.cli.diagnosis import diagnose
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool
from mlflow_sysmetrics.distributed import given
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.plugin import monitor_patch
from mlflow_sysmetrics.plugin.providers import SysMetricsRunContextProvider
from mlflow_sysmetrics.sampling.runner import BlockingCollector
from mlflow_sysmetrics.settings import VARIABLES

if TYPE_CHECKING:
    from pathlib import Path
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.collectors.contract import Collector
    from mlflow_sysmetrics.host.host import Host

SWITCH = "MLFLOW_RUN_CONTEXT_PROVIDER"
MLFLOW_SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
SPOOL_DIR = "MLFLOW_SYSMETRICS_SPOOL_DIR"


def _no_gpu(_host: Host) -> Collector:
    raise Unavailable("there is no GPU")


@pytest.fixture(autouse=True)
def _usual_host(monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture, tmp_path: Path) -> None:
    """A host without GPU, variables, or unsent samples, and an MLflow that has loaded us."""
    for name in (SWITCH, MLFLOW_SWITCH, *(variable.name for variable in VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(given._Given, "is_seen", False)  # as another test may have left it
    mocker.patch.object(settings, "_default_spool_folder", return_value=tmp_path)
    collector = mocker.Mock(spec=["collect", "close"])
    collector.collect.return_value = {}
    openers = [("cpu", lambda _host: collector), ("gpu", _no_gpu)]
    mocker.patch("mlflow_sysmetrics.sampling.collectors.COLLECTORS", openers)
    mocker.patch.object(diagnosis, "_why_no_tags", return_value=None)
    mocker.patch.object(monitor_patch, "is_attached", return_value=True)


@pytest.fixture(autouse=True)
def host_tags(mocker: MockerFixture) -> Mock:
    found: Mock = mocker.patch.object(diagnosis, "host_tags", return_value={"sys.cpu": "EPYC"})
    return found


def test_each_source_is_available_or_says_why_not() -> None:
    assert diagnose().sources == {"cpu": None, "gpu": "there is no GPU"}


def test_samples_that_wait_are_told(tmp_path: Path) -> None:
    address = RunAddress("1234", "http://somewhere", "system/")
    Spool.create(tmp_path, address, first_step=0, tags={}).release()

    (note,) = (note for note in diagnose().notes if str(tmp_path) in note)

    assert note.startswith(f"unsent samples are in {tmp_path} (files: 1)")
    assert "mlflow-sysmetrics upload" in note


class Unforthcoming:
    """A collector that knows what it does not tell once it has been asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def collect(self) -> dict[str, float]:
        self.calls.append("collect")
        return {}

    def notes(self) -> list[str]:
        return ["GPU 0 does not tell fan_speed_percentage"] * self.calls.count("collect")

    def close(self) -> None:
        self.calls.append("close")


def test_what_a_source_does_not_tell_is_noted(mocker: MockerFixture) -> None:
    collector = Unforthcoming()
    openers = [("nvidia", BlockingCollector(lambda _host: collector))]
    mocker.patch("mlflow_sysmetrics.sampling.collectors.COLLECTORS", openers)

    report = diagnose()

    assert report.sources == {"nvidia": None}
    assert "GPU 0 does not tell fan_speed_percentage" in report.notes
    assert collector.calls == ["collect", "close"]


def test_settings_tell_where_they_came_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(INTERVAL, "2.5")

    found = diagnose().settings

    assert found.keys() == {variable.name for variable in VARIABLES}
    assert found[INTERVAL] == diagnosis.Setting(2.5, INTERVAL)
    assert found["MLFLOW_SYSTEM_METRICS_NODE_ID"] == diagnosis.Setting(None, "default")
    assert found[SPOOL_DIR] == diagnosis.Setting(str(tmp_path), "default")


def test_where_all_is_well_there_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "sysmetrics,sysmonitor")

    report = diagnose()

    assert all(
        provider.installed and provider.switched_on and provider.detached is None
        for provider in report.providers.values()
    )
    assert report.problems == report.notes == ()
    assert report.as_text().endswith("No problem found.")


# Notes


def test_it_tells_how_to_switch_on() -> None:
    report = diagnose()

    assert report.problems == ()
    (note,) = report.notes
    assert note.endswith("export MLFLOW_RUN_CONTEXT_PROVIDER=sysmetrics,sysmonitor")


@pytest.mark.parametrize(("value", "is_off"), [("False", True), ("0", True), ("true", False)])
def test_it_tells_that_mlflows_own_switch_is_off(
    monkeypatch: pytest.MonkeyPatch, value: str, *, is_off: bool
) -> None:
    monkeypatch.setenv(SWITCH, "sysmonitor")
    monkeypatch.setenv(MLFLOW_SWITCH, value)

    report = diagnose()

    assert report.is_vetoed is is_off
    assert [f"{MLFLOW_SWITCH}={value} keeps" in note for note in report.notes] == (
        [True] if is_off else []
    )


def test_it_tells_which_facts_failed(monkeypatch: pytest.MonkeyPatch, host_tags: Mock) -> None:
    monkeypatch.setenv(SWITCH, "sysmetrics")
    host_tags.return_value = {"sysmetrics.error": "gpu: nvidia-smi hangs"}

    assert diagnose().notes == ("some facts could not be read: gpu: nvidia-smi hangs",)


# Problems


def test_a_folder_in_which_samples_cannot_be_kept_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT_PROVIDER", "sysmonitor")
    monkeypatch.setenv("MLFLOW_SYSMETRICS_SPOOL_DIR", str(tmp_path / "file" / "spool"))

    (problem,) = diagnose().problems

    assert f"{tmp_path / 'file'} is not a folder" in problem
    monkeypatch.setenv("MLFLOW_SYSMETRICS_SPOOL_DIR", str(tmp_path / "new" / "spool"))
    assert diagnose().problems == ()


def test_an_unknown_name_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "sysmetrics,sysmonitr")

    (problem,) = diagnose().problems
    assert "did you mean 'sysmonitor'?" in problem


def test_for_a_name_that_is_like_no_other_none_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "sysmetrics,foo")

    (problem,) = diagnose().problems
    assert problem == f"{SWITCH} names 'foo', which no installed plugin provides"


def test_a_refused_setting_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL, "often")

    (problem,) = diagnose().problems
    assert problem.startswith(f"{INTERVAL}='often' is not a number of seconds")


def test_what_is_switched_on_but_not_installed_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    monkeypatch.setenv(SWITCH, "sysmetrics")
    mocker.patch.object(diagnosis, "entry_points", return_value=[])

    assert diagnose().problems == (
        "sysmetrics is switched on but not installed: pip install mlflow-sysmetrics",
    )


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ({"return_value": False}, "MLflow did not load its entry point"),
        (
            {"side_effect": ImportError("psutil is broken")},
            "MLflow's monitor cannot be imported: ImportError('psutil is broken')",
        ),
    ],
)
def test_what_is_switched_on_but_not_attached_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
    mocker: MockerFixture,
    outcome: dict[str, Any],
    reason: str,
) -> None:
    mocker.patch.object(monitor_patch, "is_attached", **outcome)
    assert diagnose().problems == ()  # nobody asks for it

    monkeypatch.setenv(SWITCH, "sysmonitor")

    assert diagnose().problems == (f"sysmonitor is switched on but not attached: {reason}",)


@pytest.mark.parametrize("is_loaded", [True, False])
def test_whether_mlflow_asks_our_tag_provider(mocker: MockerFixture, *, is_loaded: bool) -> None:
    mocker.stopall()
    loaded = [SysMetricsRunContextProvider()] if is_loaded else []
    mocker.patch("mlflow.tracking.context.registry._run_context_provider_registry", loaded)

    assert (diagnosis._why_no_tags() is None) is is_loaded


def test_an_mlflow_that_is_not_as_expected_is_a_problem_and_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    mocker.stop(diagnosis._why_no_tags)  # type: ignore[arg-type] # a mock
    monkeypatch.delattr("mlflow.tracking.context.registry._run_context_provider_registry")
    monkeypatch.setenv(SWITCH, "sysmetrics")

    (problem,) = diagnose().problems

    assert problem.startswith(
        "sysmetrics is switched on but not attached: MLflow's providers cannot be looked at: "
        "ImportError("
    )


# How it is told


def test_the_text_tells_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SWITCH, "sysmetrics,sysmonitr")
    monkeypatch.setenv(INTERVAL, "2.5")

    text = diagnose().as_text()

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "sysmetrics installed switched on attached to MLflow" in lines
    assert "sysmonitor installed switched off attached to MLflow" in lines
    assert "cpu available" in lines
    assert "gpu there is no GPU" in lines
    assert f"{INTERVAL} 2.5 {INTERVAL}" in lines
    assert "MLFLOW_SYSTEM_METRICS_NODE_ID (none) default" in lines
    assert "MLFLOW_SYSMETRICS_INCLUDE all default" in lines
    assert "MLFLOW_SYSMETRICS_EXCLUDE (none) default" in lines
    assert f"{SPOOL_DIR} {tmp_path} default" in lines
    assert lines[-1].startswith("Problem: ")
    assert "No problem found." not in text


def test_the_dictionary_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SPOOL_DIR, "/scratch/me")

    report = json.loads(json.dumps(diagnose().as_dict()))

    assert report["versions"].keys() == {"mlflow-sysmetrics", "MLflow", "Python"}
    assert report["providers"]["sysmetrics"] == {
        "installed": True,
        "switched_on": False,
        "detached": None,
    }
    assert report["settings"][INTERVAL] == {"value": 10.0, "origin": "default"}
    assert report["settings"][SPOOL_DIR] == {"value": "/scratch/me", "origin": SPOOL_DIR}


# A job


def test_a_rank_is_told_its_place_in_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {"SLURM_PROCID": "1", "SLURM_NODEID": "1", "SLURM_NTASKS": "2", "SLURM_NNODES": "2"}
    for name, text in {**ranks, "SLURM_JOB_ID": "4242", "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, text)

    notes = " ".join(diagnose().notes)

    assert "this process is rank 1 of a job of srun with 2 processes on 2 hosts, on host 1" in notes
    assert "nobody samples on this host now" in notes


def test_outside_of_a_job_nothing_is_said_of_one() -> None:
    assert "a job" not in " ".join(diagnose().notes)
