"""Warns once of a run that was created through `MlflowClient` and has no system metrics.

Such a run may belong to another process, or record the past (import tools, schedulers, Ray Tune's
driver), so it is not sampled automatically. When it ends, it is known whether it has system
metrics.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_sysmetrics.host.forks import after_fork_in_child
from mlflow_sysmetrics.log import warn_once

if TYPE_CHECKING:
    from types import FrameType

    from mlflow.entities import Run

_SYSTEM_METRICS = "system/"
_SHORT_RUN_S = 1.0  # gets no metrics anyway
_MOST = 100  # runs that are remembered until they end
_CLIENT_MODULES = ("mlflow.tracking.", "mlflow.telemetry", "mlflow_sysmetrics", "functools")


class _Created(NamedTuple):
    """Module that created a run, and when, on the monotonic clock."""

    module: str
    time_s: float


class _UnsampledRuns:
    """Runs that were created and neither sampled nor ended."""

    def __init__(self) -> None:
        self.has_said = False
        self.created: dict[str, _Created] = {}


_runs = _UnsampledRuns()


def was_created(run_id: str) -> None:
    """Remember a run, unless MLflow itself has created it; called from within `create_run`."""
    if _runs.has_said or len(_runs.created) >= _MOST:
        return
    module = caller(sys._getframe(1))  # noqa: SLF001 - the only way to learn who calls
    if module != "mlflow" and not module.startswith("mlflow."):
        _runs.created[run_id] = _Created(module, time.monotonic())


def is_sampled(run_id: str) -> None:
    """Forget a run, since this process samples it."""
    _runs.created.pop(run_id, None)


def has_ended(client: Any, run_id: str, *, is_record: bool) -> None:  # noqa: ANN401 - MLflow has no types
    """Warn if a remembered run has no system metrics.

    Args:
        client: MLflow's client of the store.
        run_id: The run.
        is_record: Whether the caller gave its end time, as for a run of the past.

    Raises:
        Exception: The store fails.
    """
    created = _runs.created.pop(run_id, None)
    if created is None or is_record or _runs.has_said:
        return
    if time.monotonic() - created.time_s < _SHORT_RUN_S:
        return
    run: Run = client.get_run(run_id)
    if any(key.startswith(_SYSTEM_METRICS) for key in run.data.metrics):
        return  # another process has sampled it
    _runs.has_said = True
    _runs.created.clear()
    warn_once(
        f"run {run_id} has no system metrics: {created.module} created it through MlflowClient, "
        "and only runs of mlflow.start_run() are sampled automatically. In the process that "
        "trains, `with mlflow_sysmetrics.monitor(run_id):` samples such a run; with Ray Tune, call "
        "setup_mlflow() in the trainable instead of using MLflowLoggerCallback. This warning is "
        "not repeated for other runs"
    )


def caller(frame: FrameType | None) -> str:
    """Name of the module that called MLflow's client."""
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        is_fluent = module == "mlflow.tracking.fluent"
        if is_fluent or not module.startswith(_CLIENT_MODULES):
            return module
        frame = frame.f_back
    return "mlflow"


def _forget() -> None:
    """A forked child has created none of its parent's runs."""
    _runs.created.clear()


after_fork_in_child(_forget)
