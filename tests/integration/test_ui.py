"""MLflow's own UI shows what the plugin logs where the README says; looked at in Chromium."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

    from integration.launcher import Launcher

pytest.importorskip("selenium", reason="python3 scripts/test.py --browser has it")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

SCRIPTS = Path(__file__).parents[2] / "scripts"

TRAINING = """
import multiprocessing, time
import mlflow
from observation import report

with mlflow.start_run() as run:
    workers = [multiprocessing.Process(target=time.sleep, args=(3,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
report(experiment_id=run.info.experiment_id)
"""


@pytest.fixture
def page(launcher: Launcher, server: str) -> str:
    """Where the UI has a training run with two workers."""
    observation = (
        dataclasses.replace(launcher, tracking_uri=server)
        .run(TRAINING, MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="0.5")
        .observation
    )
    return f"experiments/{observation.notes['experiment_id']}/runs/{observation.run.run_id}"


@pytest.fixture
def ui(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module: ModuleType = importlib.import_module("mlflow_ui")
    with module.MlflowUi(server) as window:
        yield window


def test_the_system_metrics_tab_has_charts_of_the_process_tree(ui: Any, page: str) -> None:  # noqa: ANN401 - a class of a module loaded by path
    ui.open(f"{page}/system-metrics", "system/process")
    ui.wait_for_charts(1)
    ui.search_charts("process/(cpu|num)")  # else the sections before it would fill the window
    ui.wait_for_charts(3)

    assert "system/process (" in ui.text.replace("\n", " ")
    assert "cpu_utilization_percentage" in ui.text


def test_the_overview_has_the_tags(ui: Any, page: str) -> None:  # noqa: ANN401 - as above
    ui.open(page, "sys.cpu_cores")

    assert "sys.memory_gb" in ui.text
    assert "system/process/num_processes" in ui.text
