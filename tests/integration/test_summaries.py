"""The summary of runs that end, that are killed, and of MLflow's own monitor, in real stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.launcher import Launcher, Observation

if TYPE_CHECKING:
    from pathlib import Path

    from integration.launcher import Outcome
    from integration.servers import TrackingServer

SAMPLE = """
import mlflow
from observation import report, wait_for_samples
with mlflow.start_run() as run:
    wait_for_samples(run.info.run_id, 6)
report()
"""

KILLED = """
import os, signal, time, mlflow
from observation import wait_for_samples
with mlflow.start_run() as run:
    run_id, client = run.info.run_id, mlflow.MlflowClient()
    wait_for_samples(run_id, 6)
    deadline_s = time.monotonic() + 60
    while len(client.get_metric_history(run_id, "system/cpu_utilization_percentage")) < 4:
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    client.set_terminated(run_id, "FAILED")  # as a scheduler's hook would
    os.kill(os.getpid(), signal.SIGKILL)
"""

OF_MLFLOW = """
import time, mlflow
mlflow.set_system_metrics_sampling_interval(0.1)
mlflow.enable_system_metrics_logging()
with mlflow.start_run(run_name="mlflow's"):
    time.sleep(1.5)
"""

REPORT = "from observation import report; report()"

OFTEN = {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.1"}


def summarized(launcher: Launcher, *arguments: str, **variables: str) -> Outcome:
    """`mlflow-sysmetrics summarize` of the experiment, or as the arguments have it."""
    given = arguments or ("--experiment", launcher.folder.name)
    script = (
        "import sys; from mlflow_sysmetrics.cli.main import main; "
        f"sys.argv = ['', 'summarize', *{given!r}]; main()"
    )
    return launcher.run(script, **variables)


def observed(launcher: Launcher) -> Observation:
    return launcher.run(REPORT).observation


def test_a_run_that_ends_has_a_summary_of_all_its_samples(launcher: Launcher) -> None:
    run = launcher.run(SAMPLE, **OFTEN, MLFLOW_SYSMETRICS_INCLUDE="cpu_*").observation.run

    assert run.tags["sysmetrics.summary"] == "final"
    assert set(run.system) == {"cpu_utilization_percentage"}
    # Also of what is not logged.
    assert run.summary["samples"] >= 6
    assert any(name.startswith("process_memory_") for name in run.summary)
    assert run.summary["duration_seconds"] > 0
    points = run.series["system/summary/samples"]
    assert [point.step for point in points] == [0]


def test_the_setting_chooses_the_values(launcher: Launcher) -> None:
    globs = "cpu_utilization_percentage_max,samples"
    run = launcher.run(SAMPLE, **OFTEN, MLFLOW_SYSMETRICS_SUMMARY=globs).observation.run

    assert run.summary.keys() == {"cpu_utilization_percentage_max", "samples"}


def test_summary_and_findings_can_be_off(launcher: Launcher) -> None:
    run = launcher.run(
        SAMPLE, **OFTEN, MLFLOW_SYSMETRICS_SUMMARY="off", MLFLOW_SYSMETRICS_FINDINGS="off"
    ).observation.run

    assert run.system
    assert not run.summary
    assert not {"sysmetrics.summary", "sysmetrics.statistics", "sys.findings"} & run.tags.keys()


def test_a_name_that_no_summary_has_is_named_in_one_warning(launcher: Launcher) -> None:
    outcome = launcher.run(SAMPLE, **OFTEN, MLFLOW_SYSMETRICS_SUMMARY="gpux_*,samples")

    (warning,) = outcome.warnings
    assert "MLFLOW_SYSMETRICS_SUMMARY='gpux_*,samples' is not" in warning
    assert len(outcome.observation.run.summary) > 1


def test_a_resumed_runs_summary_covers_both_parts(launcher: Launcher) -> None:
    run = launcher.run(
        """
import mlflow
from observation import report, wait_for_samples
with mlflow.start_run() as run:
    wait_for_samples(run.info.run_id, 6)
first = mlflow.get_run(run.info.run_id).data.metrics["system/summary/samples"]
with mlflow.start_run(run.info.run_id):
    wait_for_samples(run.info.run_id, 6)
report(first=first)
""",
        **OFTEN,
    ).observation

    assert run.run.summary["samples"] >= run.notes["first"] + 6
    assert run.run.tags["sysmetrics.summary"] == "final"


def test_nested_runs_leave_the_process_tree_to_the_outermost(launcher: Launcher) -> None:
    seen = launcher.run(
        """
import mlflow
from observation import report, wait_for_samples
with mlflow.start_run(run_name="outer") as outer:
    with mlflow.start_run(run_name="inner", nested=True) as inner:
        wait_for_samples(inner.info.run_id, 6)
report()
""",
        **OFTEN,
    ).observation

    outer = seen.named("outer")
    assert outer.tags["sysmetrics.summary"] == "final"
    inner = seen.named("inner").tags["sysmetrics.summary"]
    assert inner == f"final, within run {outer.run_id}"


@pytest.mark.parametrize("text", ["", "My run."])
def test_a_description_is_written_only_where_there_is_none(launcher: Launcher, text: str) -> None:
    run = launcher.run(
        f"""
import mlflow
from observation import report, wait_for_samples
with mlflow.start_run(description={text!r} or None) as run:
    wait_for_samples(run.info.run_id, 6)
report()
""",
        **OFTEN,
        MLFLOW_SYSMETRICS_FINDINGS="describe",
    ).observation.run

    described = run.tags["mlflow.note.content"]
    assert described == text if text else "System metrics" in described


@pytest.fixture(params=["SQLite", "files", "server", "server on PostgreSQL"])
def any_store(
    request: pytest.FixtureRequest, launcher: Launcher, plugin: Path, tmp_path: Path
) -> Launcher:
    """Scripts on each kind of store."""
    uris = {"SQLite": launcher.tracking_uri, "files": (tmp_path / "mlruns").as_uri()}
    uri = uris.get(request.param)
    if uri is None:
        name = "tracking_server" if request.param == "server" else "postgresql_server"
        server: TrackingServer = request.getfixturevalue(name)
        uri = server.address
    return Launcher(plugin, tmp_path, uri)


def test_what_runs_lack_is_made_up_for_once(any_store: Launcher) -> None:
    any_store.run(KILLED, **OFTEN)
    any_store.run(OF_MLFLOW, providers=None)
    before = observed(any_store)
    assert not any(run.summary for run in before.runs)

    dry = summarized(any_store, "--experiment", any_store.folder.name, "--dry-run")
    assert dry.exit_status == 0, dry.stderr
    assert observed(any_store).runs == before.runs

    first = summarized(any_store)
    assert first.exit_status == 0, first.stderr
    after = observed(any_store).runs
    assert [run.tags["sysmetrics.summary"] for run in after] == ["recomputed"] * 2
    assert all(run.summary["samples"] >= 3 for run in after)
    assert all("cpu_utilization_percentage_mean" in run.summary for run in after)
    assert "system_memory_usage_megabytes_max" in after[1].summary

    assert "Every run that has ended has its summary." in summarized(any_store).stdout
    assert observed(any_store).runs == after


def test_a_final_summary_is_never_overwritten(launcher: Launcher) -> None:
    run = launcher.run(SAMPLE, **OFTEN).observation.run

    outcome = summarized(launcher, run.run_id)

    assert "has its summary (final)" in outcome.stdout
    assert observed(launcher).run == run


def test_a_run_that_goes_on_is_left_alone(launcher: Launcher) -> None:
    launcher.run(KILLED.replace("client.set_terminated", "print"), **OFTEN)

    outcome = summarized(launcher, observed(launcher).run.run_id)

    assert "has not ended" in outcome.stdout
    assert not observed(launcher).run.summary


def test_a_run_that_is_not_there_is_an_error_and_the_others_are_done(launcher: Launcher) -> None:
    launcher.run(KILLED, **OFTEN)
    run_id = observed(launcher).run.run_id

    outcome = summarized(launcher, "0" * 32, run_id)

    assert outcome.exit_status == 1
    assert "0" * 32 in outcome.stderr
    assert observed(launcher).run.tags["sysmetrics.summary"] == "recomputed"


def test_nodes_of_a_run_are_summed_up_together(launcher: Launcher) -> None:
    first = launcher.run(SAMPLE, **OFTEN, MLFLOW_SYSTEM_METRICS_NODE_ID="node_0").observation.run
    assert not first.summary
    launcher.run(
        SAMPLE, **OFTEN, MLFLOW_SYSTEM_METRICS_NODE_ID="node_1", MLFLOW_RUN_ID=first.run_id
    )

    summarized(launcher)

    run = observed(launcher).run
    samples = [
        len(run.system[f"node_{number}/system_memory_usage_percentage"]) for number in (0, 1)
    ]
    assert run.summary["samples"] == sum(samples)
