"""`mlflow-sysmetrics watch` on real commands: their signals, their run, their metrics."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from integration.launcher import BOTH, SCRIPTS, Launcher, Outcome, Run, finished

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)  # the first test waits for all commands

TREE = {
    "process/cpu_usage_percentage",
    "process/cpu_utilization_percentage",
    "process/memory_rss_megabytes",
    "process/num_processes",
    "process/num_threads",
}
HOST = {"cpu_utilization_percentage", "system_memory_usage_percentage"}

CREATE_RUNS = """
import mlflow, os
from mlflow import MlflowClient
from observation import tell

experiment = mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
tell([MlflowClient().create_run(experiment.experiment_id).info.run_id for _ in range(2)])
"""


@dataclass(frozen=True)
class Watcher:
    """Starts `mlflow-sysmetrics watch`; each method is one use of it, played to the end.

    Attributes:
        launcher: Starts processes.
        run_ids: Two runs that somebody else has begun.
    """

    launcher: Launcher
    run_ids: list[str]

    def two_busy_children(self) -> Outcome:
        return finished(self._start("--", sys.executable, SCRIPTS / "two_busy_children.py"))

    def using_mlflow_itself(self) -> Outcome:
        command = (sys.executable, SCRIPTS / "logging_to_the_watched_run.py")
        options = ("--run-id", self.run_ids[0], "--interval", "0.25")
        return finished(self._start(*options, "--", *command))

    def trapping_a_signal(self) -> Outcome:
        trap = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"
        return self._signalled(self._start("--", "sh", "-c", trap))

    def ended_by_a_signal(self) -> Outcome:
        command = ("sh", "-c", "echo $MLFLOW_RUN_ID; exec sleep 60")
        return self._signalled(self._start("--", *command, MLFLOW_RUN_ID=self.run_ids[1]))

    def unknown_command(self) -> Outcome:
        return finished(self._start("--", "no-such-command-anywhere"))

    def running_process(self) -> Outcome:
        script = "from observation import burn; input(); burn(1.5)"
        with subprocess.Popen(
            [sys.executable, "-c", script], cwd=SCRIPTS, stdin=subprocess.PIPE
        ) as target:
            process = self._start("--pid", str(target.pid), "--interval", "0.25")
            assert process.stderr is not None
            said = process.stderr.readline()
            target.communicate(b"\n")
        outcome = finished(process)
        return Outcome(outcome.exit_status, outcome.stdout, said + outcome.stderr)

    def _start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Begin to watch; the process is the watcher itself."""
        script = (
            "from mlflow_sysmetrics.cli.main import main\n"
            f"main({['watch', *map(str, arguments)]!r}, prog_name='mlflow-sysmetrics')"
        )
        return self.launcher.start(script, BOTH, stdin=subprocess.DEVNULL, **variables)

    def _signalled(self, process: subprocess.Popen[str]) -> Outcome:
        """Send SIGTERM to the watcher once its command has said something."""
        assert process.stdout is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        outcome = finished(process)
        return Outcome(outcome.exit_status, said + outcome.stdout, outcome.stderr)


@dataclass(frozen=True)
class Watched:
    """What has become of everything that was watched, by the names of the watcher's methods."""

    watcher: Watcher
    outcomes: dict[str, Outcome]
    runs: dict[str, Run]

    def run_of(self, name: str) -> Run:
        """The run into which it was watched, as the watcher says."""
        stderr = self.outcomes[name].stderr
        said = re.search(r"^Watching .* into run (\w+) of ", stderr, re.MULTILINE)
        assert said is not None, stderr
        return self.runs[said[1]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, plugin: Path, server: str) -> Watched:
    """All is watched side by side; another process then reads the runs."""
    launcher = Launcher(plugin, tmp_path_factory.mktemp("watched"), server)
    created = launcher.run(CREATE_RUNS, None)
    assert created.exit_status == 0, created.stderr
    watcher = Watcher(launcher, json.loads(created.stdout.splitlines()[-1]))
    plays = (
        watcher.two_busy_children,
        watcher.using_mlflow_itself,
        watcher.trapping_a_signal,
        watcher.ended_by_a_signal,
        watcher.unknown_command,
        watcher.running_process,
    )
    with ThreadPoolExecutor(max_workers=3) as pool:
        futures = {play.__name__: pool.submit(play) for play in plays}
    outcomes = {name: future.result() for name, future in futures.items()}
    observation = launcher.run("from observation import report; report()", None).observation
    return Watched(watcher, outcomes, {run.run_id: run for run in observation.runs})


def told(outcome: Outcome) -> Any:  # noqa: ANN401 - any JSON
    """What the command told last by `observation.tell`."""
    return json.loads(outcome.stdout.splitlines()[-1])


def assert_each_step_once(run: Run) -> None:
    """No step is missing, and none is there twice."""
    for key in TREE | HOST:
        steps = [point.step for point in run.system[key]]
        assert sorted(set(steps)) == steps, key
    steps = [point.step for point in run.system["process/num_threads"]]
    assert steps == list(range(len(steps)))


def test_a_command_shorter_than_the_interval_has_the_metrics_of_its_tree(
    watched: Watched,
) -> None:
    outcome, run = watched.outcomes["two_busy_children"], watched.run_of("two_busy_children")

    assert outcome.exit_status == 0, outcome.stderr
    assert run.status == "FINISHED"
    assert run.has_host_tags
    assert run.system.keys() >= TREE | HOST
    (usage,) = run.system["process/cpu_usage_percentage"]
    at_least, at_most = told(outcome)
    assert 0.85 * at_least < usage.value < 1.15 * at_most


def test_a_command_that_uses_mlflow_logs_to_the_same_run_and_is_sampled_once(
    watched: Watched,
) -> None:
    outcome, run = watched.outcomes["using_mlflow_itself"], watched.run_of("using_mlflow_itself")

    assert outcome.exit_status == 3, outcome.stderr
    assert run.run_id == watched.watcher.run_ids[0]
    assert told(outcome) == {
        "environ": {
            "MLFLOW_RUN_ID": run.run_id,
            "MLFLOW_TRACKING_URI": watched.watcher.launcher.tracking_uri,
        },
        "run_id": run.run_id,
        "threads_of_ours": ["mlflow-sysmetrics-sampler"],  # stands by; it has no uploader
    }
    assert run.status == "FAILED"
    assert run.has_host_tags
    assert [point.value for point in run.series["loss"]] == [0.5]
    assert_each_step_once(run)


def test_a_signal_reaches_the_command_and_the_command_decides(watched: Watched) -> None:
    outcome = watched.outcomes["trapping_a_signal"]

    assert outcome.stdout == "ready\n"
    assert outcome.exit_status == 7, outcome.stderr
    assert watched.run_of("trapping_a_signal").status == "FAILED"


def test_a_signal_that_ends_the_command_is_its_status_in_the_run_of_the_variable(
    watched: Watched,
) -> None:
    outcome, run = watched.outcomes["ended_by_a_signal"], watched.run_of("ended_by_a_signal")

    assert outcome.exit_status == 128 + signal.SIGTERM, outcome.stderr
    assert run.run_id == watched.watcher.run_ids[1] == outcome.stdout.strip()
    assert run.status == "KILLED"


def test_a_running_process_is_watched_until_it_ends(watched: Watched) -> None:
    outcome, run = watched.outcomes["running_process"], watched.run_of("running_process")

    assert outcome.exit_status == 0, outcome.stderr
    assert run.status == "FINISHED"
    assert run.tags["mlflow.source.name"].startswith(sys.executable)
    assert_each_step_once(run)
    assert all(point.value == 1 for point in run.system["process/num_processes"])
    assert max(point.value for point in run.system["process/cpu_usage_percentage"]) > 20


def test_an_unknown_command_leaves_no_run(watched: Watched) -> None:
    others = {name for name in watched.outcomes if name != "unknown_command"}

    assert watched.outcomes["unknown_command"].exit_status == 127
    assert watched.runs.keys() == {watched.run_of(name).run_id for name in others}
