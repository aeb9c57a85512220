"""However a process ends, its run has the status that MLflow gives it, and its metrics."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from integration.launcher import Launcher, Outcome, Run, finished

if TYPE_CHECKING:
    import subprocess

BEGINNING = """
import mlflow, signal, sys, time
from mlflow import MlflowClient

mlflow.set_system_metrics_sampling_interval(0.2)
run = mlflow.start_run()
mlflow.log_metric("loss", 1.0)
time.sleep(0.8)
"""


@pytest.mark.parametrize(
    ("ending", "exit_status", "run_status"),
    [
        ("", 0, "FINISHED"),
        ("sys.exit(3)", 3, "FINISHED"),
        ("with run: sys.exit(3)", 3, "FAILED"),
        ("raise ValueError", 1, "FINISHED"),
        ("mlflow.end_run('KILLED')", 0, "KILLED"),
    ],
)
def test_an_interpreter_that_exits(
    launcher: Launcher, ending: str, exit_status: int, run_status: str
) -> None:
    outcome = launcher.run(f"{BEGINNING}\n{ending}")
    run = stored_run(launcher)

    assert outcome.exit_status == exit_status
    assert outcome.warnings == []
    assert run.status == run_status
    assert_metrics(run)


def test_ctrl_c(launcher: Launcher) -> None:
    process = launcher.start(
        BEGINNING
        + """
with run:
    print("ready", flush=True)
    time.sleep(60)
"""
    )
    outcome = end_by(signal.SIGINT, process)
    run = stored_run(launcher)

    assert "KeyboardInterrupt" in outcome.stderr
    assert run.status == "FAILED"
    assert_metrics(run)


def test_a_killed_process_loses_at_most_what_was_not_flushed(launcher: Launcher) -> None:
    """SIGTERM gives Python no chance to do anything; a flush comes every ten seconds."""
    process = launcher.start(
        BEGINNING
        + """
while not MlflowClient().get_run(run.info.run_id).data.metrics.keys() - {"loss"}:
    time.sleep(0.2)
print("ready", flush=True)
time.sleep(60)
"""
    )
    outcome = end_by(signal.SIGTERM, process)
    run = stored_run(launcher)

    assert outcome.exit_status == -signal.SIGTERM
    assert run.status == "RUNNING"
    assert_metrics(run)


def end_by(number: signal.Signals, process: subprocess.Popen[str]) -> Outcome:
    """Send a signal to a script that says it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", finished(process).stderr
    process.send_signal(number)
    return finished(process)


def stored_run(launcher: Launcher) -> Run:
    """The only run, read by another process."""
    return launcher.run("from observation import report; report()", None).observation.run


def assert_metrics(run: Run) -> None:
    points = run.system["system_memory_usage_percentage"]
    assert [point.step for point in points] == list(range(len(points)))
    assert len(points) >= 2
    assert run.has_host_tags
    assert [point.value for point in run.series["loss"]] == [1.0]
