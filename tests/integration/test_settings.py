"""MLflow's settings, and the monitors that a user starts by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from integration.launcher import Launcher


def test_settings_called_after_the_import_hold_for_the_next_run(launcher: Launcher) -> None:
    run = launcher.run("""
import mlflow
from observation import report, wait_for_samples

mlflow.set_system_metrics_sampling_interval(0.1)
mlflow.set_system_metrics_samples_before_logging(3)
mlflow.set_system_metrics_node_id("node-7")
with mlflow.start_run() as run:
    wait_for_samples(run.info.run_id, 3)
report()
""").observation.run

    assert run.system.keys() >= {"node-7/cpu_utilization_percentage", "node-7/process/num_threads"}
    assert all(key.startswith("node-7/") for key in run.system)
    points = run.system["node-7/system_memory_usage_percentage"]
    assert len(points) >= 2
    # The last point is of a partial window; the others are of three samples each.
    gaps_ms = [b.timestamp_ms - a.timestamp_ms for a, b in pairwise(points[:-1])]
    assert all(gap_ms > 200 for gap_ms in gaps_ms)


def test_include_and_exclude_choose_the_metrics(launcher: Launcher) -> None:
    run = launcher.run(
        """
import mlflow
from observation import report, wait_for_samples

with mlflow.start_run() as run:
    wait_for_samples(run.info.run_id)
report()
""",
        MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="0.1",
        MLFLOW_SYSMETRICS_INCLUDE="process/num_*,system/cpu*",
        MLFLOW_SYSMETRICS_EXCLUDE="*_fds",
    ).observation.run

    assert run.system.keys() == {
        "cpu_utilization_percentage",
        "cpu/load_average_1m",
        "process/num_processes",
        "process/num_threads",
    }


@pytest.mark.parametrize("providers", ["sysmetrics", "sysmetrics,sysmonitor"])
def test_monitor_samples_a_run_of_mlflow_client(launcher: Launcher, providers: str) -> None:
    observation = launcher.run(
        """
import mlflow_sysmetrics, os
from mlflow import MlflowClient
from observation import report, wait_for_samples

client = MlflowClient()
experiment_id = client.create_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
run = client.create_run(experiment_id)
with mlflow_sysmetrics.monitor(run.info.run_id, sampling_interval=0.1):
    wait_for_samples(run.info.run_id)
client.set_terminated(run.info.run_id)
report()
""",
        providers,
    ).observation

    assert [point.step for point in observation.run.system["process/num_threads"]][:2] == [0, 1]
    assert observation.run.has_host_tags
    assert observation.samplers == 1
    assert observation.threads_left == []


def test_mlflows_monitor_constructed_by_hand_is_ours(launcher: Launcher) -> None:
    observation = launcher.run(
        """
import mlflow, os
from mlflow import MlflowClient
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from observation import report, wait_for_samples

client = MlflowClient()
experiment_id = client.create_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
run_id = client.create_run(experiment_id).info.run_id
monitor = SystemMetricsMonitor(run_id, sampling_interval=0.1, samples_before_logging=2)
monitor.start()
wait_for_samples(run_id)
monitor.finish()
report(is_a_monitor=isinstance(monitor, SystemMetricsMonitor))
"""
    ).observation

    assert observation.notes["is_a_monitor"]
    assert observation.samplers == 1
    assert not observation.mlflow_sampled
    assert observation.threads_left == []
    points = observation.run.system["process/num_threads"]
    assert [point.step for point in points] == list(range(len(points)))
    assert len(points) >= 2
