"""Host facts as tags, and system and process-tree metrics, for every MLflow run.

Public names are resolved when they are first used, so importing the package imports neither
psutil, pynvml nor MLflow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_sysmetrics.facts import host_tags
    from mlflow_sysmetrics.insight.report.reading import Report, report
    from mlflow_sysmetrics.plugin.providers import (
        SysMetricsRunContextProvider,
        SysMonitorRunContextProvider,
    )
    from mlflow_sysmetrics.runs.compat.process_monitor import ProcessMetricsMonitor
    from mlflow_sysmetrics.runs.monitors import RunMonitor, SystemMetricsMonitor, monitor

__all__ = [
    "ProcessMetricsMonitor",
    "Report",
    "RunMonitor",
    "SysMetricsRunContextProvider",
    "SysMonitorRunContextProvider",
    "SystemMetricsMonitor",
    "__version__",
    "host_tags",
    "monitor",
    "report",
]

_MODULE_OF = {
    "ProcessMetricsMonitor": "runs.compat.process_monitor",
    "Report": "insight.report.reading",
    "RunMonitor": "runs.monitors",
    "SysMetricsRunContextProvider": "plugin.providers",
    "SysMonitorRunContextProvider": "plugin.providers",
    "SystemMetricsMonitor": "runs.monitors",
    "host_tags": "facts",
    "monitor": "runs.monitors",
    "report": "insight.report.reading",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - slow

        return version("mlflow-sysmetrics")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
