from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import mlflow
import psutil
import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from mlflow_sysmetrics.cli.main import main
from mlflow_sysmetrics.distributed import given, this_rank
from mlflow_sysmetrics.distributed.job import JOB_TAG
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.runs.registry import OpenRun
from mlflow_sysmetrics.settings import VARIABLES

if TYPE_CHECKING:
    from pathlib import Path
    from unittest.mock import Mock

    from click.testing import Result
    from pytest_mock import MockerFixture

URI = "http://somewhere"
NO_PID = 2**22 + 1  # above the largest that Linux gives


class Bench:
    """MLflow's functions and the opening of the run, as mocks; commands are real."""

    def __init__(self, mocker: MockerFixture) -> None:
        mocker.patch.object(mlflow, "get_tracking_uri", return_value=URI)
        self.start_run: Mock = mocker.patch.object(mlflow, "start_run")
        self.start_run.side_effect = self._started
        self.end_run: Mock = mocker.patch.object(mlflow, "end_run")
        run = mocker.create_autospec(OpenRun, instance=True, refcount=0)
        self.open_run: Mock = mocker.patch.object(registry, "open_run", return_value=run)
        self._run: Mock = mocker.Mock()

    def watch(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ("watch", *arguments), prog_name="mlflow-sysmetrics")

    @property
    def monitored_run(self) -> str:
        """The only run that was monitored; it was closed, too."""
        (opening,) = self.open_run.call_args.args
        self.open_run.assert_called_once()
        self.open_run.return_value.close.assert_called_once_with()
        return str(opening.run_id)

    def _started(self, *, run_id: str | None, **_rest: Any) -> Mock:  # noqa: ANN401 - MLflow's
        self._run.info.run_id = run_id or "new"
        return self._run


@pytest.fixture
def bench(mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return Bench(mocker)


# A command


@pytest.mark.parametrize(
    ("script", "exit_status", "run_status"),
    [
        ("exit 0", 0, "FINISHED"),
        ("exit 3", 3, "FAILED"),
        ("exit 143", 143, "FAILED"),  # a command that says so is not one that was killed
        ("kill -KILL $$", 128 + signal.SIGKILL, "KILLED"),
        ("kill -TERM $$", 128 + signal.SIGTERM, "KILLED"),
    ],
)
def test_status_of_command_and_run(
    bench: Bench, script: str, exit_status: int, run_status: str
) -> None:
    result = bench.watch("--", "sh", "-c", script)

    assert result.exit_code == exit_status
    assert bench.monitored_run == "new"
    bench.end_run.assert_called_once_with(run_status)


def test_a_new_run_names_the_command_as_its_source(bench: Bench) -> None:
    bench.watch("--", "sh", "-c", "exit 0")

    bench.start_run.assert_called_once_with(
        run_id=None, tags={"mlflow.source.name": "sh -c 'exit 0'"}, log_system_metrics=False
    )


@pytest.mark.parametrize(
    ("options", "variable", "run_id"),
    [
        (("--run-id", "given"), None, "given"),
        ((), "inherited", "inherited"),
        (("--run-id", "given"), "inherited", "given"),
    ],
)
def test_a_run_that_is_given_is_taken_up(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    variable: str | None,
    run_id: str,
) -> None:
    if variable:
        monkeypatch.setenv("MLFLOW_RUN_ID", variable)

    result = bench.watch(*options, "--", "true")

    bench.start_run.assert_called_once_with(run_id=run_id, tags=None, log_system_metrics=False)
    assert bench.monitored_run == run_id
    assert f"into run {run_id} of {URI}" in result.stderr


def test_what_is_told_is_the_watched_processes(
    bench: Bench, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = mocker.Mock()
    mocker.patch("mlflow_sysmetrics.sampling.collectors.COLLECTORS", [("any", opener)])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("MLFLOW_SYSMETRICS_GPUS", "all")
    environ = os.environ | {"CUDA_VISIBLE_DEVICES": "7", "MLFLOW_SYSMETRICS_GPUS": "used"}
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environ
    ) as process:
        mocker.patch.object(psutil.Process, "wait")

        bench.watch("--pid", str(process.pid))

        (opening,) = bench.open_run.call_args.args
        opening.collectors.open()
        process.communicate()
    (host,) = opener.call_args.args
    assert host.pid == process.pid
    assert host.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert host.environ["MLFLOW_SYSMETRICS_GPUS"] == "all"


def test_without_the_processes_environment_ours_counts(
    bench: Bench, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = mocker.Mock()
    mocker.patch("mlflow_sysmetrics.sampling.collectors.COLLECTORS", [("any", opener)])
    mocker.patch.object(psutil.Process, "environ", side_effect=psutil.AccessDenied)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    bench.watch("--", "true")

    (opening,) = bench.open_run.call_args.args
    opening.collectors.open()
    (host,) = opener.call_args.args
    assert host.pid != os.getpid()
    assert host.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_the_interval_is_that_of_the_option(bench: Bench) -> None:
    bench.watch("--interval", "0.5", "--", "true")

    (opening,) = bench.open_run.call_args.args
    assert opening.settings.sampling_interval_s == 0.5


def test_options_of_the_command_are_its_own(bench: Bench, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    script = 'printf "%s\\n" "$@" >' + str(heard)
    options = ("--pid", "1", "--help", "--", "--run-id=x", "two words", "")

    for separator in ((), ("--",)):
        heard.unlink(missing_ok=True)
        result = bench.watch(*separator, "sh", "-c", script, "sh", *options)

        assert result.exit_code == 0
        assert heard.read_text().splitlines() == list(options)


def test_the_command_finds_the_run_and_does_not_monitor_it_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("OF_THE_USER", "kept")

    bench.watch("--", "sh", "-c", f"env >{tmp_path}/environ")

    found = dict(line.split("=", 1) for line in (tmp_path / "environ").read_text().splitlines())
    assert found["MLFLOW_RUN_ID"] == "new"
    assert found["MLFLOW_TRACKING_URI"] == URI
    assert found["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] == "false"
    assert found["OF_THE_USER"] == "kept"
    assert "MLFLOW_RUN_ID" not in os.environ


def test_standard_output_is_the_commands_alone(bench: Bench) -> None:
    bench.end_run.side_effect = lambda _status: print("View run at: ...")  # noqa: T201 - as MLflow does

    result = bench.watch("--", "true")

    assert result.stdout == ""
    assert "View run at: ..." in result.stderr


# What cannot be run


def test_an_unknown_command_makes_no_run(bench: Bench) -> None:
    result = bench.watch("--", "no-such-command-anywhere")

    assert result.exit_code == 127
    assert "no-such-command-anywhere: there is no such command" in result.stderr
    bench.start_run.assert_not_called()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_executable_makes_no_run(bench: Bench, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "train"
    path.mkdir() if kind == "folder" else path.write_text("#!/bin/sh\n")

    result = bench.watch("--", str(path))

    assert result.exit_code == 126
    assert f"{path}: is not executable" in result.stderr
    bench.start_run.assert_not_called()


def test_what_the_system_refuses_to_run_is_a_failed_run(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_text("neither a script nor a program")
    path.chmod(0o755)

    result = bench.watch("--", str(path))

    assert result.exit_code == 126
    assert f"{path}: Exec format error" in result.stderr
    bench.end_run.assert_called_once_with("FAILED")
    bench.open_run.assert_not_called()


# What MLflow refuses


def test_without_a_run_the_command_is_not_begun(bench: Bench, tmp_path: Path) -> None:
    bench.start_run.side_effect = MlflowException("Run 'x' not found")

    result = bench.watch("--run-id", "x", "--", "touch", str(tmp_path / "begun"))

    assert result.exit_code == 1
    assert result.stderr == "Error: no run to log to: Run 'x' not found\n"
    assert not (tmp_path / "begun").exists()


def test_the_exit_status_is_passed_on_also_if_the_runs_cannot_be_set(bench: Bench) -> None:
    bench.end_run.side_effect = MlflowException("the server is down")

    result = bench.watch("--", "sh", "-c", "exit 3")

    assert result.exit_code == 3
    assert "status could not be set to FAILED: the server is down" in result.stderr


# Signals


def test_a_signal_before_the_command_runs_waits_for_it(bench: Bench, mocker: MockerFixture) -> None:
    popen = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - as they come
        os.kill(os.getpid(), signal.SIGTERM)
        return popen(*arguments, **options)

    mocker.patch.object(subprocess, "Popen", interrupted)

    result = bench.watch("--", "sleep", "60")

    assert result.exit_code == 128 + signal.SIGTERM
    bench.end_run.assert_called_once_with("KILLED")


def test_an_ignored_signal_stays_ignored_for_the_command(bench: Bench) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = bench.watch("--", "sh", "-c", "kill -HUP $$; exit 5")
    finally:
        signal.signal(signal.SIGHUP, previous)

    assert result.exit_code == 5


def test_signals_are_handled_as_before_when_the_command_has_ended(bench: Bench) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    bench.watch("--", "true")

    assert [signal.getsignal(number) for number in numbers] == before


# A process


class Process:
    """Stands for a process: what is done with it while it is waited for is given."""

    def __init__(self, mocker: MockerFixture) -> None:
        process = mocker.patch.object(psutil, "Process", autospec=True)
        process.return_value.cmdline.return_value = ["train", "--all data"]
        self.wait: Mock = process.return_value.wait


@pytest.fixture
def process(mocker: MockerFixture) -> Process:
    return Process(mocker)


def test_a_new_run_ends_with_the_process(bench: Bench, process: Process) -> None:
    process.wait.side_effect = bench.end_run.assert_not_called

    result = bench.watch("--pid", "4711")

    assert result.exit_code == 0
    assert "Watching process 4711 (train '--all data') into run new of" in result.stderr
    assert bench.monitored_run == "new"
    bench.start_run.assert_called_once_with(
        run_id=None, tags={"mlflow.source.name": "train '--all data'"}, log_system_metrics=False
    )
    bench.end_run.assert_called_once_with("FINISHED")


@pytest.mark.parametrize("how", ["option", "variable"])
def test_the_status_of_a_run_that_is_given_is_left_alone(
    bench: Bench, process: Process, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    options = ("--run-id", "given") if how == "option" else ()
    if how == "variable":
        monkeypatch.setenv("MLFLOW_RUN_ID", "given")

    result = bench.watch("--pid", "4711", *options)

    assert result.exit_code == 0
    assert bench.monitored_run == "given"
    bench.start_run.assert_not_called()
    bench.end_run.assert_not_called()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_watching_in_good_order(
    bench: Bench, process: Process, number: signal.Signals
) -> None:
    process.wait.side_effect = lambda: signal.raise_signal(number)

    result = bench.watch("--pid", "4711")

    assert result.exit_code == 0
    assert bench.monitored_run == "new"
    bench.end_run.assert_called_once_with("FINISHED")


def test_a_process_that_does_not_exist_is_an_error_without_a_run(bench: Bench) -> None:
    result = bench.watch("--pid", str(NO_PID))

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert str(NO_PID) in result.stderr
    bench.start_run.assert_not_called()


# The command line


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--",),
        ("--pid", "1", "--", "true"),
        ("--pid", "0"),
        ("--pid", "one"),
        ("--interval", "0", "--", "true"),
        ("--intervall", "5", "--", "true"),
    ],
)
def test_what_is_not_understood_is_a_usage_error(bench: Bench, arguments: tuple[str, ...]) -> None:
    result = bench.watch(*arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: mlflow-sysmetrics watch")
    bench.start_run.assert_not_called()


def test_help_tells_of_the_options_and_the_status(bench: Bench) -> None:
    result = bench.watch("--help")

    assert result.exit_code == 0
    assert all(option in result.output for option in ("--pid", "--run-id", "--interval"))
    assert "exit status is passed on" in result.output


# A job on several hosts


SRUN = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NNODES": "2",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def task(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A task of a step on two hosts; `SLURM_PROCID` and `SLURM_NODEID` say which."""
    for name, text in SRUN.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(this_rank, "_this_rank", this_rank._ThisRank())
    monkeypatch.setattr(given._Given, "is_seen", False)
    return bench


def set_task(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setenv("SLURM_PROCID", number)
    monkeypatch.setenv("SLURM_NODEID", number)


def test_on_the_first_host_the_run_has_the_jobs_tag_and_the_hosts_number(
    task: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task(monkeypatch, "0")
    task.watch("--", "true")

    assert JOB_TAG in task.start_run.call_args.kwargs["tags"]
    (opening,) = task.open_run.call_args.args
    assert opening.settings.node_id == "node_0"


def test_on_another_host_the_command_is_watched_into_that_run(
    task: Bench, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    followers = mocker.patch("mlflow_sysmetrics.cli.watch.RankFollower")
    set_task(monkeypatch, "1")
    script = 'test -z "$MLFLOW_RUN_ID" && test "$MLFLOW_SYSMETRICS_DISTRIBUTED" = off || exit 1'
    result = task.watch("--", "sh", "-c", f"{script}; exit 3")

    assert result.exit_code == 3
    followers.return_value.run.assert_called_once_with()
    followers.return_value.close.assert_called_once_with()
    task.start_run.assert_not_called()
    task.end_run.assert_not_called()


def test_a_run_that_is_given_is_everybodys(task: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    set_task(monkeypatch, "1")
    task.watch("--run-id", "1234", "--", "true")

    assert task.monitored_run == "1234"
