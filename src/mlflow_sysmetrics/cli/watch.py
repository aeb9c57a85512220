"""The command `watch`: monitors a command or a running process into an MLflow run."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import mlflow
import psutil
from mlflow.exceptions import MlflowException

from mlflow_sysmetrics.cli.launchers import advice_for
from mlflow_sysmetrics.distributed.leader import nodes_of, tags_of_led_job, with_node
from mlflow_sysmetrics.distributed.this_rank import this_job
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log.addresses import shown_address, shown_text
from mlflow_sysmetrics.log.isolation import Isolated
from mlflow_sysmetrics.log.text import clean
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.runs.monitors import RunMonitor
from mlflow_sysmetrics.runs.rank import RankFollower, is_of_other_host
from mlflow_sysmetrics.runs.switch import SYSMONITOR, switched_on
from mlflow_sysmetrics.sampling.runners import CollectorSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from mlflow_sysmetrics.distributed.job import Job
    from mlflow_sysmetrics.settings import Settings

_RUN_ID = "MLFLOW_RUN_ID"
_SOURCE_TAG = "mlflow.source.name"

_NOT_EXECUTABLE, _NOT_FOUND, _ENDED_BY_SIGNAL = 126, 127, 128
"""Exit statuses, as shells give them."""

_SIGNAL_DELAY_S = 0.5
"""Longest time until a signal is forwarded."""

_FORWARDED = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


def watch_command(command: Sequence[str], run_id: str | None, settings: Settings) -> int:
    """Run a command and monitor it; the run begins and ends with it.

    The command finds the run in MLFLOW_RUN_ID, so what it logs itself goes there, too.

    Args:
        command: What to run.
        run_id: The run; where it is None that of MLFLOW_RUN_ID, or else a new one.
        settings: In force for the run.

    Returns:
        The command's exit status; 128 and the signal's number if one ended it.

    Raises:
        click.ClickException: The run cannot be started; then the command is not started either.
    """
    if shutil.which(command[0]) is None:
        return _say_why_not(command[0])
    job = None if run_id or settings.distributed == "off" else this_job()
    if job is not None and is_of_other_host(job):
        return _watch_beside(command, job)
    settings = settings if run_id else with_node(settings)
    run_id = _start_run(run_id or os.environ.get(_RUN_ID), clean(shlex.join(command)))
    with _signals_forwarded() as forward_to:
        try:
            process = subprocess.Popen(command, env=_environ_with(run_id))  # noqa: S603 - the user's
        except OSError as error:
            _end_run("FAILED")
            click.echo(f"{command[0]}: {error.strerror}", err=True)
            return _NOT_EXECUTABLE
        forward_to(process.pid)
        _say_where("this command", run_id)
        _say_what_is_elsewhere(command)
        with _monitor(process.pid, run_id, settings):
            _wait_without_reaping(process)
    status = process.wait()
    _end_run("FINISHED" if status == 0 else "KILLED" if status < 0 else "FAILED")
    return status if status >= 0 else _ENDED_BY_SIGNAL - status


def _watch_beside(command: Sequence[str], job: Job) -> int:
    """Run a command of a job, and monitor it into the run that `watch` opens on another host.

    That run is looked for while the command runs; whoever opened it ends it.

    Returns:
        As `watch_command`.
    """
    environ = {**os.environ, "MLFLOW_SYSMETRICS_DISTRIBUTED": "off"}  # its ranks do not follow, too
    with _signals_forwarded() as forward_to:
        try:
            process = subprocess.Popen(command, env=environ)  # noqa: S603 - the user's
        except OSError as error:
            click.echo(f"{command[0]}: {error.strerror}", err=True)
            return _NOT_EXECUTABLE
        forward_to(process.pid)
        click.echo("Watching this command into the run of the job's first host", err=True)
        rank = RankFollower(job, _collectors_of(process.pid))
        start_thread("rank", rank.run)
        _wait_without_reaping(process)
        rank.close()
        registry.close_all()
    status = process.wait()
    return status if status >= 0 else _ENDED_BY_SIGNAL - status


def watch_process(pid: int, run_id: str | None, settings: Settings) -> None:
    """Monitor a process until it ends, or until Ctrl-C or SIGTERM.

    A new run ends with the process; a given run keeps its status.

    Args:
        pid: The process.
        run_id: The run; where it is None that of MLFLOW_RUN_ID, or else a new one.
        settings: In force for the run.

    Raises:
        click.ClickException: There is no such process, or a run cannot be begun.
    """
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
        source = clean(shlex.join(command) or process.name())
    except psutil.Error as error:
        raise click.ClickException(str(error)) from error
    given = run_id or os.environ.get(_RUN_ID)
    into = given or _start_run(None, source)
    _say_where(f"process {pid} ({source})", into)
    _say_what_is_elsewhere(command)
    at_sigterm = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with suppress(KeyboardInterrupt), _monitor(pid, into, settings):
            process.wait()
    finally:
        signal.signal(signal.SIGTERM, at_sigterm)
    if given is None:
        _end_run("FINISHED")


def _say_why_not(name: str) -> int:
    """Say why a command cannot be run, and give the exit status for that."""
    if os.path.dirname(name) and Path(name).exists():  # noqa: PTH120 - a Path drops the `./`
        click.echo(f"{name}: is not executable", err=True)
        return _NOT_EXECUTABLE
    click.echo(f"{name}: there is no such command", err=True)
    return _NOT_FOUND


def _start_run(run_id: str | None, source: str) -> str:
    """Start a new run, or resume a given one, without MLflow's own monitor.

    Raises:
        click.ClickException: MLflow cannot.
    """
    tags = None if run_id else {_SOURCE_TAG: source, **tags_of_led_job()}
    try:
        run = mlflow.start_run(run_id=run_id, tags=tags, log_system_metrics=False)
    except MlflowException as error:
        reason = shown_text(error, mlflow.get_tracking_uri())
        raise click.ClickException(f"no run to log to: {reason}") from error
    return str(run.info.run_id)


def _end_run(status: str) -> None:
    # MLflow prints where the run is; stdout is the command's. Its exit status is passed on anyway.
    with Isolated() as attempt, redirect_stdout(sys.stderr):
        mlflow.end_run(status)
    if attempt.error:
        reason = shown_text(attempt.error, mlflow.get_tracking_uri())
        click.echo(f"The run's status could not be set to {status}: {reason}", err=True)


def _say_where(what: str, run_id: str) -> None:
    store = shown_address(mlflow.get_tracking_uri())
    click.echo(f"Watching {what} into run {run_id} of {store}", err=True)


def _say_what_is_elsewhere(command: Sequence[str]) -> None:
    """Say what to write instead if the command only waits for processes elsewhere."""
    advice = advice_for(command, os.environ)
    if advice is not None:
        click.echo(advice, err=True)


@contextmanager
def _monitor(pid: int, run_id: str, settings: Settings) -> Iterator[None]:
    """Monitor with all collectors of the host, for another process instead of this one."""
    opening = registry.RunRequest(
        run_id,
        mlflow.get_tracking_uri(),
        settings,
        resumed=True,
        collectors=_collectors_of(pid),
        nodes=nodes_of(settings),
    )
    with RunMonitor(opening):
        yield


def _collectors_of(pid: int) -> CollectorSet:
    return CollectorSet(Host(pid=pid, environ=_environ_seen_by(pid)))


def _environ_seen_by(pid: int) -> dict[str, str]:
    """The process's environment, which names its GPUs, with our settings."""
    try:
        environ = psutil.Process(pid).environ()
    except psutil.Error:
        environ = dict(os.environ)
    ours = {name: text for name, text in os.environ.items() if name.startswith("MLFLOW_")}
    return environ | ours


def _environ_with(run_id: str) -> dict[str, str]:
    """The command's environment: it logs to the same run, and does not monitor it again.

    While `sysmonitor` is on, a process that joins the run stands by, and other runs that it opens
    (as Lightning's logger does) are sampled. MLflow's own monitor would sample the run again: it is
    off.
    """
    environ = {**os.environ, _RUN_ID: run_id, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    if not switched_on(SYSMONITOR):
        environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "false"
    return environ


@contextmanager
def _signals_forwarded() -> Iterator[Callable[[int], None]]:
    """Forward signals to the command; this process ends when the command does.

    Yields a function to call with the command's pid; earlier signals are forwarded then. A signal
    that is ignored, as under `nohup`, stays ignored, also in the command.
    """
    pids: list[int] = []
    early: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        # Ctrl-C at the terminal reaches the whole foreground group, the command included.
        if number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty():
            return
        if not pids:
            early.append(number)
        for pid in pids:
            # Popen.send_signal() would reap it, and the last sample would lose its values.
            with suppress(OSError):
                os.kill(pid, number)

    def forward_to(pid: int) -> None:
        pids.append(pid)
        for number in early:
            forward(number, None)

    heard = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, forward) for number in heard}
    try:
        yield forward_to
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_without_reaping(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end, and leave it in the process table for the last sample.

    A thread waits, and this one joins it repeatedly: a signal that arrives just before a wait
    begins is handled only after that wait.
    """
    waiting = start_thread("wait", _wait, process)
    while waiting.is_alive():
        waiting.join(_SIGNAL_DELAY_S)


def _wait(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "waitid"):  # not on Windows, nor on macOS before Python 3.13
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()
