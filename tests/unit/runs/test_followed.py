"""One host follows a run in a real store; the other host is this test."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from mlflow_sysmetrics.catalog import METRICS
from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.distributed.follower import Follower
from mlflow_sysmetrics.distributed.follower_keys import FOLLOWER_KEYS, GPU_KEYS
from mlflow_sysmetrics.distributed.job import JOB_TAG, Job
from mlflow_sysmetrics.distributed.launchers import LAUNCHERS
from mlflow_sysmetrics.distributed.nodes import NODES_TAG, describe_node, parse_nodes, tags_of_node
from mlflow_sysmetrics.distributed.roots import roll_of
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.insight.node_tag import NodeTag, key_of
from mlflow_sysmetrics.insight.part import Part
from mlflow_sysmetrics.insight.whole import NodeResult
from mlflow_sysmetrics.runs import followed, rank, registry
from mlflow_sysmetrics.runs.followed import HostSampling, settings_of_follower
from mlflow_sysmetrics.runs.rank import RankFollower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JOB = Job(LAUNCHERS[0], rank=2, size=4, nodes=2, node=1, key="0123456789abcdef", recurs=False)

pytestmark = [
    # MLflow's own, with the newest SQLAlchemy.
    pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning"),
    pytest.mark.usefixtures("_closed"),
]


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shutil.copy(empty_database, tmp_path / "runs.db")
    uri = f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    monkeypatch.setenv("MLFLOW_SYSMETRICS_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setattr(registry, "PACE_MS", 0)
    return uri


@pytest.fixture
def _closed() -> Iterator[None]:
    yield
    registry.close_all()


@pytest.fixture
def run_id(uri: str) -> str:
    """The run that rank 0 has opened on the other host."""
    tags = {
        JOB_TAG: f"{JOB.key}.bbbbbb000001",
        **tags_of_node(0, describe_node({"sys.hostname": "node-17"}, "bbbbbb"), {}),
        "sys.cpu": "rank 0's",
    }
    return str(MlflowClient(uri).create_run("0", tags=tags).info.run_id)


def follower_of(uri: str, job: Job = JOB) -> Follower:
    return Follower(job, 0, HostSampling(job), lambda: uri)


def eventually(is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def metrics_of(uri: str, run_id: str) -> dict[str, float]:
    return dict(MlflowClient(uri).get_run(run_id).data.metrics)


def test_a_host_logs_its_main_metrics_under_its_number_and_is_listed(uri: str, run_id: str) -> None:
    follower = follower_of(uri)
    follower.look()
    eventually(lambda: bool(metrics_of(uri, run_id)))
    registry.close_all()

    run = MlflowClient(uri).get_run(run_id)
    keys = {key.removeprefix("system/node_1/") for key in run.data.metrics}
    nodes = parse_nodes(run.data.tags[NODES_TAG])
    assert {"cpu_utilization_percentage", "process/num_processes"} <= keys
    assert keys <= {*FOLLOWER_KEYS}
    assert nodes[0]["host"] == "node-17"
    assert nodes[1]["id"] == domain.sampling_domain(Host())[:6]
    assert run.data.tags["sys.cpu"] == "rank 0's"
    assert run.info.status == "RUNNING"


def test_it_stops_when_rank_0_ends_the_run_whose_status_stays(uri: str, run_id: str) -> None:
    follower = follower_of(uri)
    follower.look()
    MlflowClient(uri).set_terminated(run_id, "FAILED")
    follower.look()

    assert not follower.has_run
    assert MlflowClient(uri).get_run(run_id).info.status == "FAILED"


def test_a_process_that_ends_just_after_the_run_has_sent_its_last_word(
    uri: str, run_id: str
) -> None:
    leaders = NodeResult("node_0", Part({}, 0.0, 60.0, 6))
    client = MlflowClient(uri)
    client.set_tag(run_id, key_of("node_0"), NodeTag("final", 2, leaders).to_text())
    follower = follower_of(uri)
    follower.look()
    eventually(lambda: bool(metrics_of(uri, run_id)))
    client.set_terminated(run_id)
    follower.look()
    registry.close_all()  # as the end of the process does

    run = client.get_run(run_id)
    assert run.data.tags["sysmetrics.node_1"].startswith("final")
    assert run.data.tags["sysmetrics.summary"] == "final"
    assert run.data.metrics["system/summary/duration_seconds"] == 60.0


def test_a_host_that_comes_back_goes_on_with_the_steps(uri: str, run_id: str) -> None:
    key = "system/node_1/cpu_utilization_percentage"
    client = MlflowClient(uri)
    for count in (1, 2):
        follower_of(uri).look()
        eventually(
            lambda count=count: len(client.get_metric_history(run_id, key)) > 2 * count  # type: ignore[misc]
        )
        registry.close_all()

    steps = [metric.step for metric in client.get_metric_history(run_id, key)]
    assert steps == sorted(set(steps))


def test_where_rank_0_is_on_this_host_it_is_not_sampled_twice(uri: str, run_id: str) -> None:
    leader = roll_of(JOB, domain.sampling_domain(Host()))
    assert leader.acquire()
    follower = follower_of(uri)
    follower.look()

    assert not follower.has_run
    assert not metrics_of(uri, run_id)
    leader.release()


def test_one_rank_of_a_host_is_elected_and_the_others_report_to_it(uri: str, run_id: str) -> None:
    elected, other = RankFollower(JOB), RankFollower(JOB)

    assert elected.step() is not None
    assert other.step() == rank._LOCAL_S
    assert elected._follower.has_run
    assert not other._follower.has_run
    eventually(lambda: bool(metrics_of(uri, run_id)))
    for each in (elected, other):
        each.close()


def test_when_the_elected_one_ends_another_takes_over_at_its_next_step(
    uri: str, run_id: str
) -> None:
    elected, other = RankFollower(JOB), RankFollower(JOB)
    elected.step()
    other.step()
    registry.close_all()  # as its end does
    elected.close()
    other.step()

    assert other._follower.has_run
    eventually(lambda: bool(metrics_of(uri, run_id)))
    other.close()


def test_a_rank_of_rank_0s_host_asks_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_self: Follower) -> float:
        raise AssertionError("asked")

    monkeypatch.setattr(Follower, "look", never)
    job = Job(LAUNCHERS[0], rank=1, size=4, nodes=2, node=0, key="key", recurs=False)

    ranks = RankFollower(job)
    assert ranks.step() is None
    ranks.close()


def test_all_metrics_or_those_that_the_user_names_are_logged_if_so_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not settings_of_follower(1).wants("cpu/load_average_1m")
    monkeypatch.setenv("MLFLOW_SYSMETRICS_INCLUDE", "cpu/*")
    assert settings_of_follower(1).wants("cpu/load_average_1m")
    assert not settings_of_follower(1).wants("process/num_processes")
    monkeypatch.delenv("MLFLOW_SYSMETRICS_INCLUDE")
    monkeypatch.setenv("MLFLOW_SYSMETRICS_DISTRIBUTED", "all")
    assert settings_of_follower(1).wants("cpu/load_average_1m")


def test_a_host_logs_at_most_15_metrics_and_3_of_each_gpu() -> None:
    wants = settings_of_follower(1).wants
    wanted = [metric.key for metric in METRICS if wants(metric.key.replace("{index}", "0"))]

    assert {key for key in wanted if "{index}" not in key} == {*FOLLOWER_KEYS}
    assert {key for key in wanted if "{index}" in key} == {f"gpu_{{index}}_{k}" for k in GPU_KEYS}
    assert len(FOLLOWER_KEYS) <= 15
    assert followed.settings_of_follower(12).wants("gpu_12_power_usage_watts")
