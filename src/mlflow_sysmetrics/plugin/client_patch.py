"""Runs that a client opens through `MlflowClient`, with context tags that it has resolved itself.

The `MLFlowLogger`s of Lightning and PyTorch Lightning do this: they call MLflow's `resolve_tags`,
as `start_run` does, and pass the result to `MlflowClient.create_run`. Our provider's `tags()` sees
that the caller of `resolve_tags` is not MLflow. Two methods of MLflow's tracking client, which
`MlflowClient` uses with every store, are wrapped: `create_run` starts sampling for that thread's
next run with context tags, and `set_terminated` ends it. What is still open ends with the process.

A run that a client creates without context tags is not sampled; `unsampled` warns of it.

Nothing here imports MLflow before it has been imported.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.host.forks import after_fork_in_child
from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.isolation import Contained, contained
from mlflow_sysmetrics.plugin.import_hook import ImportHook
from mlflow_sysmetrics.plugin.monitor_patch import PATCHED_ATTR
from mlflow_sysmetrics.runs import unsampled as unsampled_runs
from mlflow_sysmetrics.runs.switch import SYSMONITOR, switched_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow.entities import Run

    from mlflow_sysmetrics.runs.monitors import RunMonitor

_CLIENT_MODULE = "mlflow.tracking._tracking_service.client"

_EXPECTED_FOR_S = 60.0
"""How long after tags were resolved a new run with context tags counts as theirs."""


class _Expected(threading.local):
    """Until when this thread is expected to open the run whose tags it has resolved."""

    until_s = 0.0


_expected = _Expected()
_monitors: dict[str, RunMonitor] = {}  # by run id


def tags_resolved_by(module: str) -> None:
    """Expect a client's run if the code that resolves tags is not MLflow's.

    Args:
        module: Name of the module that called `resolve_tags`.

    Raises:
        Exception: This MLflow is not as expected.
    """
    if module == "mlflow" or module.startswith("mlflow."):
        _expected.until_s = 0.0  # if a run follows, it is MLflow's: `start_run`'s, a grid search's
        return
    if _is_wanted():
        wrap_tracking_client()
        _expected.until_s = time.monotonic() + _EXPECTED_FOR_S


def _is_wanted() -> bool:
    from mlflow.environment_variables import (  # noqa: PLC0415 - imported only with MLflow
        MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING as VARIABLE,
    )

    return bool(VARIABLE.get())


def attach() -> None:
    """Wrap both methods, now or when MLflow has imported its client; again changes nothing."""
    if hasattr(sys.modules.get(_CLIENT_MODULE), "TrackingServiceClient"):
        wrap_tracking_client()
    else:
        ImportHook(_CLIENT_MODULE, lambda _: wrap_tracking_client()).install()


def wrap_tracking_client() -> None:
    """Wrap both methods; calling it again changes nothing."""
    from mlflow.tracking._tracking_service.client import (  # noqa: PLC0415 - as above
        TrackingServiceClient,
    )

    if hasattr(TrackingServiceClient.create_run, PATCHED_ATTR):
        return
    # Two threads may both come here: wrapped twice, `create_run` still begins only once.
    create_run = _beginning(TrackingServiceClient.create_run)
    setattr(create_run, PATCHED_ATTR, True)
    TrackingServiceClient.create_run = create_run  # type: ignore[method-assign] # that is the seam
    TrackingServiceClient.set_terminated = _ending(  # type: ignore[method-assign] # as above
        TrackingServiceClient.set_terminated
    )
    after_fork_in_child(_forget)


def _beginning(create_run: Callable[..., Run]) -> Callable[..., Run]:
    """Make `create_run` start sampling for the expected run."""

    @functools.wraps(create_run)
    def create_run_and_begin(client: Any, *args: Any, **kwargs: Any) -> Run:  # noqa: ANN401 - as MLflow's
        expected = time.monotonic() < _expected.until_s
        run = create_run(client, *args, **kwargs)
        if expected:
            _begin(run, client)
        if _argument(1, "start_time", args, kwargs) is None:  # else the run records the past
            _remember(run)
        return run

    return create_run_and_begin


def _remember(run: Run) -> None:
    with _unnoticed():
        if switched_on(SYSMONITOR) and run.info.run_id not in _monitors and _is_wanted():
            unsampled_runs.was_created(run.info.run_id)


def _begin(run: Run, client: Any) -> None:  # noqa: ANN401 - MLflow has no types
    with contained("runs that a client opens are not sampled", subject="client runs"):
        from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME  # noqa: PLC0415 - as above

        from mlflow_sysmetrics.distributed.leader import nodes_of, with_node  # noqa: PLC0415 - heavy
        from mlflow_sysmetrics.runs.monitors import RunMonitor  # noqa: PLC0415 - heavy
        from mlflow_sysmetrics.runs.registry import RunRequest  # noqa: PLC0415 - heavy
        from mlflow_sysmetrics.settings import Settings  # noqa: PLC0415 - heavy

        # `resolve_tags` always gives that tag: a run without it is another.
        if not _expected.until_s or MLFLOW_SOURCE_NAME not in run.data.tags:
            return
        _expected.until_s = 0.0
        run_id = run.info.run_id
        settings = with_node(Settings.from_env())
        opening = RunRequest(
            run_id,
            client.tracking_uri,
            settings,
            resumed=False,
            poll_status=True,
            nodes=nodes_of(settings),
        )
        _warn_of_other_run(run_id)
        _monitors[run_id] = RunMonitor(opening)
        _monitors[run_id].start()


def _warn_of_other_run(run_id: str) -> None:
    """Warn that a client ignores the run that it was given (by `watch`, by Azure ML)."""
    given = os.environ.get("MLFLOW_RUN_ID")
    if given and given != run_id:
        warn_once(
            f"a logger has opened run {run_id}, though MLFLOW_RUN_ID names run {given}: its "
            f"metrics and the system metrics of this process are in {run_id}; those of a watched "
            f"command are in {given}. To have one run, give the logger that id: "
            'MLFlowLogger(run_id=os.environ["MLFLOW_RUN_ID"])'
        )


def _ending(set_terminated: Callable[..., None]) -> Callable[..., None]:
    """Make `set_terminated` end the sampling of a run, even if it fails, as `end_run` does."""

    @functools.wraps(set_terminated)
    def set_terminated_and_end(client: Any, run_id: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as MLflow's
        _hasten(run_id)
        try:
            set_terminated(client, run_id, *args, **kwargs)
        finally:
            if (monitor := _monitors.pop(run_id, None)) is not None:
                monitor.finish()
        _mention(client, run_id, is_record=_argument(1, "end_time", args, kwargs) is not None)

    return set_terminated_and_end


def _hasten(run_id: str) -> None:
    """Let what is left of a run be sent while MLflow's `end_run` waits for the server itself."""
    registry = sys.modules.get("mlflow_sysmetrics.runs.registry")
    if registry is None:
        return  # no run was sampled
    try:
        if unsampled_runs.caller(sys._getframe(2)) == "mlflow.tracking.fluent":  # noqa: SLF001 - the only way to learn who calls
            registry.begin_to_end(run_id)
    except Exception as error:  # noqa: BLE001 - nothing of ours may harm the user's run
        warn_once(f"the end of a run takes longer: {error!r}", subject="end of a run")


def _argument(position: int, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any argument
    """An argument of a client's method, counted after `self`; None if it was not given."""
    return args[position] if len(args) > position else kwargs.get(name)


def _mention(client: Any, run_id: str, *, is_record: bool) -> None:  # noqa: ANN401 - MLflow has no types
    with _unnoticed():
        unsampled_runs.has_ended(client, run_id, is_record=is_record)


def _unnoticed() -> Contained:
    what = "no warning will name the runs that are not sampled"
    return contained(what, subject="unsampled runs")


def _forget() -> None:
    """A forked child neither opens nor ends its parent's runs."""
    _expected.until_s = 0.0
    _monitors.clear()
