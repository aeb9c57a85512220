"""Attaches to MLflow's system metrics by two patches, made when MLflow loads our provider.

When system metrics are on, MLflow's `start_run` imports `SystemMetricsMonitor` from
`mlflow.system_metrics.system_metrics_monitor`, constructs it, and calls `start()`; `end_run`
calls `finish()`; MLflow 2.9 and newer work this way. While `sysmonitor` is switched on,

- constructing that class gives ours, a subclass of it;
- system metrics are on by default: if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is not defined and
  `start_run` gets no `log_system_metrics`.

No module of MLflow is imported before MLflow imports it. While `sysmonitor` is switched off, MLflow
behaves as without the plugin: the switch is read whenever a run opens.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.isolation import Isolated
from mlflow_sysmetrics.plugin.import_hook import ImportHook
from mlflow_sysmetrics.runs.switch import SYSMONITOR, switched_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

MONITOR_MODULE = "mlflow.system_metrics.system_metrics_monitor"
PATCHED_ATTR = "_mlflow_sysmetrics"
"""Marks MLflow's objects that are already patched."""


def attach() -> None:
    """Apply both patches; calling it again changes nothing.

    Raises:
        Exception: This MLflow is not as expected.
    """
    _default_to_on()
    module = sys.modules.get(MONITOR_MODULE)
    if module is not None:
        _substitute(module)
    else:
        # A module without that class stays as it is: `_can_monitor` warns when a run opens.
        ImportHook(MONITOR_MODULE, _substitute).install()


def is_attached() -> bool:
    """Whether a run that opens now would be monitored by us; imports MLflow's monitor."""
    module = importlib.import_module(MONITOR_MODULE)
    return hasattr(module.SystemMetricsMonitor.__new__, PATCHED_ATTR)


def _default_to_on() -> None:
    from mlflow.environment_variables import (  # noqa: PLC0415 - imported only with MLflow
        MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING as VARIABLE,
    )

    ask_mlflow: Callable[[], bool | None] = VARIABLE.get
    if hasattr(ask_mlflow, PATCHED_ATTR):
        return

    def get() -> bool | None:
        if VARIABLE.defined or not switched_on(SYSMONITOR):
            return ask_mlflow()
        return _can_monitor() or ask_mlflow()

    setattr(get, PATCHED_ATTR, True)
    # On the variable's object: through os.environ, child processes would inherit it.
    VARIABLE.get = get  # type: ignore[method-assign] # that is the seam


def _can_monitor() -> bool:
    """Whether MLflow's monitor can be imported and gives ours; a warning if not.

    Without this check, `start_run` would raise if psutil is missing.
    """
    with Isolated() as attempt:  # psutil or pynvml may be broken
        if is_attached():
            return True
    reason = repr(attempt.error) if attempt.error else "this version of MLflow is not as expected"
    warn_once(
        f"system metrics are not sampled: {reason}. "
        "Runs go on without them; `mlflow-sysmetrics doctor` says more"
    )
    return False


def _substitute(module: ModuleType) -> None:
    """Make `SystemMetricsMonitor(...)` give our subclass while `sysmonitor` is switched on."""
    original = module.SystemMetricsMonitor
    if hasattr(original.__new__, PATCHED_ATTR):
        return

    def new(cls: type, *_args: object, **_kwargs: object) -> Any:  # noqa: ANN401 - as object's
        if cls is original and switched_on(SYSMONITOR):
            from mlflow_sysmetrics.runs.monitors import SystemMetricsMonitor  # noqa: PLC0415 - heavy

            return object.__new__(SystemMetricsMonitor)
        return object.__new__(cls)

    setattr(new, PATCHED_ATTR, True)
    original.__new__ = staticmethod(new)
