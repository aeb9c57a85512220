"""Opens and closes runs as it is told on stdin, and tells on stdout when and how long it took.

A command is a JSON list of a name below and its arguments; the answer is a JSON object. The
process ends when stdin does.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import MlflowClient
from observation import tell, wait_for_samples

if TYPE_CHECKING:
    from collections.abc import Callable

_wall_s, _wall_ns = time.time, time.time_ns
_monitors: list[Any] = []


def open_run(run_id: str | None = None) -> dict[str, Any]:
    """Open a run, nested in those that are open, or resume one."""
    _forget_peak_memory()
    began_s = time.perf_counter()
    run = mlflow.start_run(run_id, nested=mlflow.active_run() is not None)
    took_s = time.perf_counter() - began_s
    return {"run_id": run.info.run_id, "time_s": _wall_s(), "took_s": took_s}


def close_run() -> dict[str, Any]:
    """Close the run that was opened last; what MLflow raises is told."""
    return _timed(mlflow.end_run)


def monitor(tracking_uri: str) -> dict[str, Any]:
    """Open a run in another store, by the client, and monitor it."""
    import mlflow_sysmetrics  # noqa: PLC0415 - here, so that a run without us is without us

    client = MlflowClient(tracking_uri)
    run_id = client.create_run("0").info.run_id
    _monitors.append(mlflow_sysmetrics.monitor(run_id, tracking_uri))
    return {"run_id": run_id} | _timed(_monitors[-1].start)


def stop_monitor() -> dict[str, Any]:
    """Finish the monitor that was started last."""
    return _timed(_monitors.pop().finish)


def delete_run() -> dict[str, Any]:
    """Delete the run that was opened last, as somebody else may."""
    run = mlflow.active_run()
    assert run is not None
    MlflowClient().delete_run(run.info.run_id)
    return {}


def take_samples(count: int) -> dict[str, Any]:
    """Stay until so many samples more of the run that was opened last have been taken."""
    run = mlflow.active_run()
    assert run is not None
    wait_for_samples(run.info.run_id, count)
    return {}


def flush_always() -> dict[str, Any]:
    """Let each sample be sent as soon as it is there."""
    from mlflow_sysmetrics.delivery import schedule  # noqa: PLC0415 - as above

    schedule.FLUSH_INTERVAL_S = 0.2
    return {}


def limit_files(size_bytes: int) -> dict[str, Any]:
    """Let the system refuse to write more than that into a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
    return {}


def set_clock(by_s: float) -> dict[str, Any]:
    """Set this process's wall clock forward, or back."""
    time.time = lambda: _wall_s() + by_s
    time.time_ns = lambda: _wall_ns() + round(by_s * 1e9)
    return {}


def use_token(token: str) -> dict[str, Any]:
    """Let MLflow's client use another token from now on."""
    os.environ["MLFLOW_TRACKING_TOKEN"] = token
    return {}


def use_workspace(name: str) -> dict[str, Any]:
    """Work in a workspace of the server from now on; it is made if there is none of this name."""
    if name not in {workspace.name for workspace in mlflow.list_workspaces()}:
        mlflow.create_workspace(name)
    mlflow.set_workspace(name)
    return {}


def peak_memory() -> dict[str, Any]:
    """The most resident memory since a run was opened."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"bytes": 1024 * int(line.split()[1])}


def _forget_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _timed(do: Callable[[], object]) -> dict[str, Any]:
    time_s, began_s, error = _wall_s(), time.perf_counter(), None
    try:
        do()
    except Exception as raised:  # noqa: BLE001 - told, for the caller to judge
        error = repr(raised)
    return {"time_s": time_s, "took_s": time.perf_counter() - began_s, "error": error}


COMMANDS = {
    command.__name__: command
    for command in (
        open_run,
        close_run,
        monitor,
        stop_monitor,
        delete_run,
        take_samples,
        flush_always,
        limit_files,
        set_clock,
        use_token,
        use_workspace,
        peak_memory,
    )
}

MlflowClient().get_experiment("0")  # what MLflow imports late is not the runs' time
tell({})
for order in sys.stdin:
    name, *arguments = json.loads(order)
    tell(COMMANDS[name](*arguments))
