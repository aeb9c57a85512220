"""`mlflow-sysmetrics watch` on real commands: their signals, their run, their metrics."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from integration.launcher import BOTH, SCRIPTS, Launcher, Outcome, Run, finished

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)  # each imports MLflow two or three times

TREE = {
    "process/cpu_usage_percentage",
    "process/cpu_utilization_percentage",
    "process/memory_rss_megabytes",
    "process/num_processes",
    "process/num_threads",
}
HOST = {"cpu_utilization_percentage", "system_memory_usage_percentage"}


class Watcher:
    """Starts `mlflow-sysmetrics watch` on one store."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Begin to watch; the process is the watcher itself."""
        script = (
            "from mlflow_sysmetrics.cli import main\n"
            f"main({['watch', *map(str, arguments)]!r}, prog_name='mlflow-sysmetrics')"
        )
        return self.launcher.start(script, BOTH, **variables)

    def watch(self, *arguments: str | Path, **variables: str) -> Outcome:
        """Watch to the end."""
        return finished(self.start(*arguments, **variables))

    def runs(self) -> list[Run]:
        """All runs there are now."""
        script = "from observation import report; report()"
        return self.launcher.run(script, None).observation.runs

    def run(self) -> Run:
        """The only run there is."""
        (run,) = self.runs()
        return run

    def created_run(self) -> str:
        """The id of a run that somebody else has begun."""
        script = (
            "import mlflow, os; from mlflow import MlflowClient; from observation import tell\n"
            "experiment = mlflow.set_experiment(os.environ['MLFLOW_EXPERIMENT_NAME'])\n"
            "tell(MlflowClient().create_run(experiment.experiment_id).info.run_id)"
        )
        return str(told(self.launcher.run(script, None).stdout))


@pytest.fixture
def watcher(tmp_path: Path, plugin: Path, empty_database: Path) -> Watcher:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return Watcher(Launcher(plugin, tmp_path, f"sqlite:///{tmp_path}/mlflow.db"))


def told(stdout: str) -> object:
    """What a script told last by `observation.tell`."""
    return json.loads(stdout.splitlines()[-1])


def assert_each_step_once(run: Run, keys: set[str]) -> None:
    """No step is missing, and none is there twice."""
    for key in keys:
        steps = [point.step for point in run.system[key]]
        assert sorted(set(steps)) == steps, key
    steps = [point.step for point in run.system["process/num_threads"]]
    assert steps == list(range(len(steps)))


def test_a_command_shorter_than_the_interval_has_the_metrics_of_its_tree(
    watcher: Watcher,
) -> None:
    outcome = watcher.watch("--", sys.executable, SCRIPTS / "two_busy_children.py")

    assert outcome.exit_status == 0, outcome.stderr
    run = watcher.run()
    assert run.status == "FINISHED"
    assert run.has_host_tags
    assert run.system.keys() >= TREE | HOST
    (usage,) = run.system["process/cpu_usage_percentage"]
    (processes,) = run.system["process/num_processes"]
    assert usage.value == pytest.approx(told(outcome.stdout), rel=0.15)
    assert processes.value >= 1


def test_a_command_that_uses_mlflow_logs_to_the_same_run_and_is_sampled_once(
    watcher: Watcher,
) -> None:
    run_id = watcher.created_run()
    command = (sys.executable, SCRIPTS / "logging_to_the_watched_run.py")

    outcome = watcher.watch("--run-id", run_id, "--interval", "0.25", "--", *command)

    assert outcome.exit_status == 3, outcome.stderr
    notes = told(outcome.stdout)
    assert notes == {
        "environ": {"MLFLOW_RUN_ID": run_id, "MLFLOW_TRACKING_URI": watcher.launcher.tracking_uri},
        "run_id": run_id,
        "threads_started": [],
    }
    run = watcher.run()
    assert run.status == "FAILED"
    assert run.has_host_tags
    assert [point.value for point in run.series["loss"]] == [0.5]
    assert_each_step_once(run, TREE | HOST)


def test_a_signal_reaches_the_command_and_the_command_decides(watcher: Watcher) -> None:
    command = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"

    process = watcher.start("--", "sh", "-c", command)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    outcome = finished(process)

    assert outcome.exit_status == 7, outcome.stderr
    assert watcher.run().status == "FAILED"


def test_a_signal_that_ends_the_command_is_its_status_in_the_run_of_the_variable(
    watcher: Watcher,
) -> None:
    run_id = watcher.created_run()

    process = watcher.start(
        "--", "sh", "-c", "echo $MLFLOW_RUN_ID; exec sleep 60", MLFLOW_RUN_ID=run_id
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"{run_id}\n"
    process.send_signal(signal.SIGTERM)
    outcome = finished(process)

    assert outcome.exit_status == 128 + signal.SIGTERM, outcome.stderr
    assert watcher.run().status == "KILLED"


def test_an_unknown_command_leaves_no_run(watcher: Watcher) -> None:
    watcher.created_run()

    outcome = watcher.watch("--", "no-such-command-anywhere")

    assert outcome.exit_status == 127
    assert len(watcher.runs()) == 1


def test_a_running_process_is_watched_until_it_ends(watcher: Watcher) -> None:
    script = "from observation import burn; input(); burn(1.5)"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=SCRIPTS, stdin=subprocess.PIPE
    ) as target:
        process = watcher.start("--pid", str(target.pid), "--interval", "0.25")
        assert process.stderr is not None
        said = process.stderr.readline()
        target.communicate(b"\n")
    outcome = finished(process)

    assert f"Watching process {target.pid}" in said
    assert outcome.exit_status == 0, outcome.stderr
    run = watcher.run()
    assert run.status == "FINISHED"
    assert run.tags["mlflow.source.name"].startswith(sys.executable)
    assert_each_step_once(run, TREE | HOST)
    assert all(point.value == 1 for point in run.system["process/num_processes"])
    assert max(point.value for point in run.system["process/cpu_usage_percentage"]) > 20
