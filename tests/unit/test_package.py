from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

import mlflow_sysmetrics
from mlflow_sysmetrics.plugin import providers

HEAVY = {"mlflow", "psutil", "pynvml"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not HEAVY & _modules_after(
        "import mlflow_sysmetrics, mlflow_sysmetrics.plugin.providers"
    )


def test_asking_the_switch_imports_nothing_heavy() -> None:
    code = "from mlflow_sysmetrics import SysMetricsRunContextProvider as P; P().in_context()"

    assert not HEAVY & _modules_after(code)


@pytest.mark.parametrize("name", mlflow_sysmetrics.__all__)
def test_every_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(mlflow_sysmetrics, name) is not None
    assert name in dir(mlflow_sysmetrics)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="'mlflow_sysmetrics' has no attribute 'monitors2'"):
        _ = mlflow_sysmetrics.monitors2


def test_the_version_is_that_of_the_distribution() -> None:
    assert mlflow_sysmetrics.__version__ == version("mlflow-sysmetrics")


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("sysmetrics", providers.SysMetricsRunContextProvider),
        ("sysmonitor", providers.SysMonitorRunContextProvider),
    ],
)
def test_entry_points_load_the_providers(name: str, provider: type) -> None:
    (entry,) = entry_points(group="mlflow.run_context_provider", name=name)

    assert entry.load() is provider


def _modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has imported after some code."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return {module.split(".")[0] for module in done.stdout.split()}
