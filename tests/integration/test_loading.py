"""MLflow loads the plugin by its entry points, whatever is imported first, at little cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from integration.launcher import Launcher

LOADED = """
import mlflow, mlflow_sysmetrics, sys
from importlib.metadata import distribution, entry_points
from mlflow.tracking.context.registry import _run_context_provider_registry as registry
from observation import tell

tell({
    "module": mlflow_sysmetrics.__file__,
    "distribution": str(distribution("mlflow-sysmetrics").locate_file("")),
    "entry_points": sorted(e.name for e in entry_points(group="mlflow.run_context_provider")),
    "providers": sorted(type(each).__name__ for each in registry),
    "modules": sorted(sys.modules),
})
"""


def test_the_wheel_is_what_mlflow_loads_and_loads_once(launcher: Launcher) -> None:
    told = launcher.run(LOADED).told()

    assert told["module"] == str(launcher.plugin / "mlflow_sysmetrics" / "__init__.py")
    assert told["distribution"].rstrip("/") == str(launcher.plugin)
    for name in ("sysmetrics", "sysmonitor"):
        assert told["entry_points"].count(name) == 1
    for provider in ("SysMetricsRunContextProvider", "SysMonitorRunContextProvider"):
        assert told["providers"].count(provider) == 1


def test_switched_off_it_imports_nothing_heavy(launcher: Launcher, tmp_path: Path) -> None:
    """Beside a distribution of the same name that has no entry points and hides ours."""
    metadata = tmp_path / "hidden" / "mlflow_sysmetrics-0.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: mlflow-sysmetrics\nVersion: 0.0\n")
    without = dataclasses.replace(launcher, path=(tmp_path / "hidden",))

    more = launcher.run(LOADED, providers=None).told()
    less = without.run(LOADED, providers=None).told()
    ours = set(more["modules"]) - set(less["modules"])

    assert "SysMonitorRunContextProvider" not in less["providers"]
    attaching = {"plugin.client_patch", "plugin.import_hook", "plugin.monitor_patch"}
    switch = {
        "log",
        "log.addresses",
        "log.isolation",
        "plugin",
        "plugin.providers",
        "runs",
        "runs.switch",
    }
    ranks = {"plugin.rank_thread", "distributed", "distributed.given", "distributed.launchers"}
    light = attaching | switch | ranks | {"host", "host.forks", "host.threads", "runs.unsampled"}
    assert ours <= {f"mlflow_sysmetrics.{name}" for name in light}


@pytest.mark.parametrize(
    "imports",
    [
        "import mlflow_sysmetrics, mlflow",
        "from mlflow_sysmetrics import SysMetricsRunContextProvider; import mlflow",
        "from mlflow_sysmetrics import SystemMetricsMonitor; import mlflow",
        "import mlflow.system_metrics.system_metrics_monitor, mlflow",
    ],
)
def test_the_order_of_imports_does_not_matter(launcher: Launcher, imports: str) -> None:
    outcome = launcher.run(f"""
{imports}
import time
from observation import report

mlflow.set_system_metrics_sampling_interval(0.1)
with mlflow.start_run():
    time.sleep(1.05)  # from one second on a run is sure to have metrics
report()
""")

    assert outcome.observation.samplers == 1
    assert not outcome.observation.mlflow_sampled
    assert outcome.observation.run.has_host_tags
    assert outcome.observation.run.system
    assert outcome.warnings == []
