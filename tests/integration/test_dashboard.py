"""The dashboard and the alert rules, against a real training that a real Prometheus scrapes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fakes.waiting import eventually
from integration.launcher import Launcher, Run, finished
from integration.prometheus_server import PrometheusServer
from integration.servers import free_port
from make_dashboard import PANELS, PATH, dashboard_text

_ROOT = Path(__file__).parents[2]

TRAINING = f"""
import sys
sys.path.append({str(_ROOT / "tests")!r})
from fakes.fake_nvml import FakeNvml, h100
sys.modules["pynvml"] = FakeNvml(h100(0), h100(1))
import mlflow
from observation import report
with mlflow.start_run(run_name='the "first" one'):
    sys.stdin.read()
report()
"""


class Watched(NamedTuple):
    """A training that went on while Prometheus was asked.

    Attributes:
        run: As its store has it.
        shown: By query of the dashboard: what Prometheus gave.
        rules: The rules, as Prometheus has evaluated them.
        info: Labels of the info series.
    """

    run: Run
    shown: dict[str, list[dict[str, Any]]]
    rules: list[dict[str, Any]]
    info: dict[str, str]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATH.read_text())
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def filled(query: str, run_id: str) -> str:
    """A query of the dashboard with the variables that a user chooses."""
    values = {"run": run_id, "series": run_id, "node": ".*", "gpu": ".*"}
    query = query.replace("$__rate_interval", "10s")
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], query)


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, plugin: Path, empty_database: Path
) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    launcher = Launcher(plugin, folder, f"sqlite:///{folder}/mlflow.db")
    port = free_port()
    rules = _ROOT / "grafana/alerts.yml"
    with PrometheusServer(folder / "prometheus", port, rules) as prometheus:
        process = launcher.start(
            TRAINING,
            stdin=subprocess.PIPE,
            MLFLOW_SYSMETRICS_EXPORT=f"prometheus:{port}",
            MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="0.5",
            MLFLOW_EXPERIMENT_NAME="pairs",
        )
        try:
            rated = "rate(process_cpu_time_seconds_total[10s])"
            eventually(lambda: prometheus.query(rated))
            info = eventually(lambda: prometheus.query("mlflow_sysmetrics_run_info"))[0]["metric"]
            eventually(lambda: prometheus.query("run:memory_utilization:ratio"))
            shown = {query: prometheus.query(filled(query, info["run_id"])) for query in queries()}
            groups = prometheus.get("rules")["groups"]
        finally:
            outcome = finished(process)
    return Watched(outcome.observation.run, shown, groups[0]["rules"], info)


def test_the_file_is_what_the_script_makes_of_the_catalog() -> None:
    assert PATH.read_text() == dashboard_text(), "run: python3 scripts/make_dashboard.py"


def test_it_can_be_imported_with_any_data_source() -> None:
    found = dashboard()
    sources = {
        str(each["datasource"]["uid"])
        for panel in found["panels"]
        for each in (panel, *panel["targets"])
    }
    variables = {each["name"]: each["type"] for each in found["templating"]["list"]}

    assert found["schemaVersion"] >= 39
    assert sources == {"${datasource}"}
    assert {"experiment", "run", "node", "gpu"} <= variables.keys()
    assert variables["datasource"] == "datasource"
    assert {panel["type"] for panel in found["panels"][1:]} == {"timeseries"}


def test_it_shows_what_the_run_has_logged_and_nothing_else(watched: Watched) -> None:
    for panel in PANELS:
        for line in panel.lines:
            is_logged = line.key in watched.run.system
            assert bool(watched.shown[line.query]) == is_logged, line.key


def test_it_shows_the_values_of_the_training(watched: Watched) -> None:
    def shown(key: str) -> dict[str, float]:
        query = next(line.query for each in PANELS for line in each.lines if line.key == key)
        return {
            each["metric"].get("gpu", ""): float(each["value"][1]) for each in watched.shown[query]
        }

    logged = watched.run.system
    assert shown("gpu_0_utilization_percentage") == pytest.approx({"0": 0.9, "1": 0.91})
    assert shown("gpu_0_power_usage_watts")["0"] == logged["gpu_0_power_usage_watts"][-1].value
    rss = [point.value * 1e6 for point in logged["process/memory_rss_megabytes"]]
    assert min(rss) - 1e3 <= shown("process/memory_rss_megabytes")[""] <= max(rss) + 1e3


def test_the_run_is_found_by_its_experiment_and_name(watched: Watched) -> None:
    (regex,) = (
        each["regex"] for each in dashboard()["templating"]["list"] if each["name"] == "run"
    )
    # As Grafana has the result of a query, to which the expression is applied.
    labels = ",".join(f'{name}="{text}"' for name, text in sorted(watched.info.items()))
    found = re.search(regex.strip("/").replace("(?<", "(?P<"), f"{{{labels}}} 1 1234")

    assert found is not None
    assert found["value"] == watched.run.run_id
    assert found["text"] == 'the "first" one'
    assert watched.info["series_run_id"] == watched.run.run_id
    assert watched.info["experiment"] == "pairs"


def test_prometheus_evaluates_every_rule(watched: Watched) -> None:
    assert len(watched.rules) == 6
    assert {each["health"] for each in watched.rules} == {"ok"}
