"""Runs a script in a process of its own, with the plugin installed, and hears what it reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SCRIPTS = Path(__file__).with_name("scripts")
"""Where the longer scripts are, and `observation`, which every script may import."""

BOTH = "sysmetrics,sysmonitor"

_SUMMARY = "system/summary/"

_HUNG_S = 180  # no script takes half of it; what does hangs and is killed


class Point(NamedTuple):
    """One point of a metric, as the store has it."""

    step: int
    timestamp_ms: int
    value: float


@dataclass(frozen=True)
class Run:
    """A run, as the store has it.

    Attributes:
        series: The points of each metric, in the order of their steps.
    """

    run_id: str
    name: str
    status: str
    lasted_s: float
    tags: dict[str, str]
    series: dict[str, list[Point]]

    @property
    def system(self) -> dict[str, list[Point]]:
        """The series of system metrics, by key without `system/`; without the summary."""
        return {
            key.removeprefix("system/"): points
            for key, points in self.series.items()
            if key.startswith("system/") and not key.startswith(_SUMMARY)
        }

    @property
    def summary(self) -> dict[str, float]:
        """The summary, by key without `system/summary/`."""
        return {
            key.removeprefix(_SUMMARY): points[-1].value
            for key, points in self.series.items()
            if key.startswith(_SUMMARY)
        }

    @property
    def has_host_tags(self) -> bool:
        """Whether the host's facts are on it."""
        return {"sys.cpu_cores", "sys.memory_gb", "sys.platform"} <= self.tags.keys()


@dataclass(frozen=True)
class Observation:
    """What a script saw of its runs and threads.

    Attributes:
        runs: All runs of its experiment, the oldest first.
        threads_started: Names of all threads it started.
        threads_left: Names of the plugin's threads that do not end.
        notes: Whatever else it tells.
    """

    runs: list[Run]
    threads_started: list[str]
    threads_left: list[str]
    notes: dict[str, Any]

    @property
    def run(self) -> Run:
        """The only run."""
        (run,) = self.runs
        return run

    def named(self, name: str) -> Run:
        """The only run of a name."""
        (run,) = (run for run in self.runs if run.name == name)
        return run

    @property
    def mlflow_sampled(self) -> bool:
        """Whether MLflow's own monitor ran."""
        return "SystemMetricsMonitor" in self.threads_started

    @property
    def samplers(self) -> int:
        """How many sampler threads the plugin started."""
        return self.threads_started.count("mlflow-sysmetrics-sampler")

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Observation:
        """What `observation.observe` gave."""
        runs = [
            Run(
                **{
                    **run,
                    "series": {key: [Point(*p) for p in s] for key, s in run["series"].items()},
                }
            )
            for run in told["runs"]
        ]
        return cls(runs, told["threads_started"], told["threads_left"], told["notes"])


@dataclass(frozen=True)
class Outcome:
    """What became of a script."""

    exit_status: int
    stdout: str
    stderr: str

    @property
    def warnings(self) -> list[str]:
        """What the plugin said to the user."""
        return [line for line in self.stderr.splitlines() if "mlflow-sysmetrics:" in line]

    def told(self) -> dict[str, Any]:
        """The JSON that the script printed last."""
        assert self.exit_status == 0, f"{self.stdout}\n{self.stderr}"
        told: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return told

    @property
    def observation(self) -> Observation:
        """What it reported by `observation.report`."""
        return Observation.from_json(self.told())


@dataclass(frozen=True)
class Launcher:
    """Starts scripts in a fresh environment.

    Attributes:
        plugin: Folder in which the wheel is installed.
        folder: Where scripts run.
        tracking_uri: The store that they use.
        path: Folders that scripts find before the plugin's.
        variables: Further environment variables.
    """

    plugin: Path
    folder: Path
    tracking_uri: str
    path: tuple[Path, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, script: str | Path, providers: str | None = BOTH, **variables: str) -> Outcome:
        """Run a script to its end.

        Args:
            script: Its text, or its file.
            providers: MLFLOW_RUN_CONTEXT_PROVIDER; None leaves it out.
            variables: Further environment variables.
        """
        process = self.start(script, providers, stdin=subprocess.DEVNULL, **variables)
        return finished(process)

    def start(
        self,
        script: str | Path,
        providers: str | None = BOTH,
        *,
        stdin: int = subprocess.DEVNULL,
        **variables: str,
    ) -> subprocess.Popen[str]:
        """Start a script; `finished` waits for its end."""
        arguments = [str(script)] if isinstance(script, Path) else ["-c", script]
        if providers is not None:
            variables["MLFLOW_RUN_CONTEXT_PROVIDER"] = providers
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self._environ() | self.variables | variables,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that its children end with it if it hangs
        )

    def _environ(self) -> dict[str, str]:
        return clean_environ() | {
            "PYTHONPATH": os.pathsep.join(map(str, (*self.path, self.plugin, SCRIPTS))),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_EXPERIMENT_NAME": self.folder.name,
            "MLFLOW_SYSMETRICS_SPOOL_DIR": str(self.folder / "spool"),
            "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3.13 and newer asks for it
        }


def finished(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a script's end; one that hangs is killed, and fails by its exit status."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=_HUNG_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
    return Outcome(process.returncode, stdout, stderr)


def clean_environ() -> dict[str, str]:
    """This process's environment without what steers MLflow or Python, and without telemetry."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "PYTHON"))
    }
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true"}
