"""Runs that a client opens through `MlflowClient`, with context tags that it has resolved itself.

So do the `MLFlowLogger`s of Lightning and PyTorch Lightning: they call MLflow's `resolve_tags`, as
`start_run` does, and pass what it gives to `MlflowClient.create_run`. Our provider is asked for
tags and sees that it is not MLflow who resolves them. Two methods of MLflow's tracking client are
wrapped, through which `MlflowClient` goes on any tracking URI: `create_run` then begins to sample
for that thread's next run with context tags, and `set_terminated` ends it. Whatever is left ends
with the process.

A run that a client creates without context tags is not sampled; `unsampled_runs` says so.

Nothing here imports MLflow before it has been imported.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.addresses import shown_text
from mlflow_sysmetrics.plugin.import_hook import ImportHook
from mlflow_sysmetrics.plugin.monitor_patch import PATCHED_ATTR
from mlflow_sysmetrics.runs import unsampled as unsampled_runs
from mlflow_sysmetrics.runs.switch import SYSMONITOR, switched_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from mlflow.entities import Run

    from mlflow_sysmetrics.runs.monitors import RunMonitor

_CLIENT_MODULE = "mlflow.tracking._tracking_service.client"

_EXPECTED_FOR_S = 60.0
"""How long after tags were resolved a run with context tags is taken for the one they are for."""


class _Expected(threading.local):
    """Until when this thread's client may open the run that it has resolved tags for."""

    until_s = 0.0


_expected = _Expected()
_monitors: dict[str, RunMonitor] = {}  # by run id


def tags_resolved_by(module: str) -> None:
    """Be ready for the run of a client, when tags are resolved and not by MLflow.

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
        _ClientHook().install()


class _ClientHook(ImportHook):
    """Waits until MLflow's tracking client is imported, then wraps its methods."""

    module = _CLIENT_MODULE

    def change(self, module: ModuleType) -> None:  # noqa: ARG002 - it is in `sys.modules`
        with contextlib.suppress(AttributeError, ImportError):  # this MLflow is not as expected
            wrap_tracking_client()


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
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _beginning(create_run: Callable[..., Run]) -> Callable[..., Run]:
    """Let `create_run` begin to sample for the run that is expected."""

    @functools.wraps(create_run)
    def create_run_and_begin(client: Any, *args: Any, **kwargs: Any) -> Run:  # noqa: ANN401 - as MLflow's
        expected = time.monotonic() < _expected.until_s
        run = create_run(client, *args, **kwargs)
        if expected:
            _begin(run, client)
        if _argument(1, "start_time", args, kwargs) is None:  # else it records what is past
            _remember(run)
        return run

    return create_run_and_begin


def _remember(run: Run) -> None:
    try:
        if switched_on(SYSMONITOR) and run.info.run_id not in _monitors and _is_wanted():
            unsampled_runs.was_created(run.info.run_id)
    except Exception as error:  # noqa: BLE001 - nothing of ours may harm the user's run
        warn_once(f"runs that are not sampled go unnoticed: {error!r}", subject="unsampled runs")


def _begin(run: Run, client: Any) -> None:  # noqa: ANN401 - MLflow has no types
    try:
        from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME  # noqa: PLC0415 - as above

        from mlflow_sysmetrics.runs.monitors import RunMonitor  # noqa: PLC0415 - heavy
        from mlflow_sysmetrics.runs.registry import RunRequest  # noqa: PLC0415 - heavy
        from mlflow_sysmetrics.settings import Settings  # noqa: PLC0415 - heavy

        # `resolve_tags` always gives that tag: a run without it is another.
        if not _expected.until_s or MLFLOW_SOURCE_NAME not in run.data.tags:
            return
        _expected.until_s = 0.0
        run_id = run.info.run_id
        opening = RunRequest(
            run_id,
            client.tracking_uri,
            Settings.from_env(),
            resumed=False,
            poll_status=True,
        )
        _warn_of_other_run(run_id)
        _monitors[run_id] = RunMonitor(opening)
        _monitors[run_id].start()
    except Exception as error:  # noqa: BLE001 - nothing of ours may harm the user's run
        warn_once(
            f"runs that a client opens are not sampled: {shown_text(repr(error))}",
            subject="client runs",
        )


def _warn_of_other_run(run_id: str) -> None:
    """Say that a client does not log to the run that it was given (by `watch`, by Azure ML)."""
    given = os.environ.get("MLFLOW_RUN_ID")
    if given and given != run_id:
        warn_once(
            f"a logger has opened run {run_id}, though MLFLOW_RUN_ID names run {given}: what it "
            f"logs is in {run_id}, with the system metrics of this process; those of a watched "
            f"command are in {given}. To have one run, give the logger that id: "
            'MLFlowLogger(run_id=os.environ["MLFLOW_RUN_ID"])'
        )


def _ending(set_terminated: Callable[..., None]) -> Callable[..., None]:
    """Let `set_terminated` end the sampling for a run, as `end_run` does: also where it fails."""

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
    """An argument that a method of the client was given after `self`; None where it was not."""
    return args[position] if len(args) > position else kwargs.get(name)


def _mention(client: Any, run_id: str, *, is_record: bool) -> None:  # noqa: ANN401 - MLflow has no types
    try:
        unsampled_runs.has_ended(client, run_id, is_record=is_record)
    except Exception as error:  # noqa: BLE001 - as above
        warn_once(f"runs that are not sampled go unnoticed: {error!r}", subject="unsampled runs")


def _forget() -> None:
    """A forked child opens no run of its parent's, and ends none."""
    _expected.until_s = 0.0
    _monitors.clear()
