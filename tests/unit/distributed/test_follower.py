from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy, StoreFailed
from mlflow_sysmetrics.distributed.follower import Follower
from mlflow_sysmetrics.distributed.job import JOB_TAG, Job
from mlflow_sysmetrics.distributed.launchers import LAUNCHERS
from mlflow_sysmetrics.distributed.nodes import NODES_TAG, nodes_of, parse_nodes, tags_of_node
from mlflow_sysmetrics.distributed.run_search import FoundRun, NoStore, NotShared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.distributed.nodes import Nodes

LAUNCHED_MS = 1_700_000_000_000
JOB = Job(LAUNCHERS[0], rank=2, size=4, nodes=2, node=1, key="key", recurs=True)

pytestmark = pytest.mark.usefixtures("nothing_said")


def run(run_id: str, leader: str = "bbbbbb000001", nodes: Nodes | None = None) -> FoundRun:
    tags = {JOB_TAG: f"key.{leader}"}
    for number, node in (nodes or {0: {"id": leader[:6]}}).items():
        tags |= tags_of_node(number, node, tags)
    return FoundRun(run_id, "0", LAUNCHED_MS + 1000, tags)


@dataclass
class OpenRun:
    number: int
    is_open: bool = True
    tags: dict[str, str] = field(default_factory=dict)

    def put_tags(self, tags: Mapping[str, str]) -> None:
        self.tags |= tags

    def end(self) -> None:
        self.is_open = False


@dataclass
class Site:
    """A store, and this host; the store answers with `runs`, or fails as it is told."""

    runs: list[FoundRun] = field(default_factory=list)
    failure: Exception | None = None
    is_taken: bool = False
    uri: str | None = "http://server"
    here: str = "aaaaaa"
    joined: dict[str, OpenRun] = field(default_factory=dict)
    tracking_uri: str = "http://server"
    experiments: str = "the experiments that are named"
    cost_s: float = 0.0
    now_s: float = 0.0

    def find(self, key: str) -> list[FoundRun]:
        assert key == "key"
        if self.failure is not None:
            raise self.failure
        return self.runs

    def join(self, run: FoundRun, number: int, _tracking_uri: str) -> OpenRun | None:
        if self.is_taken:
            return None
        self.joined[run.run_id] = OpenRun(number)
        return self.joined[run.run_id]

    def follower(self, job: Job = JOB) -> Follower:
        return Follower(job, LAUNCHED_MS, self, lambda: self.uri, lambda _uri: self)

    @property
    def open_runs(self) -> set[str]:
        return {run_id for run_id, run in self.joined.items() if run.is_open}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site()
    monkeypatch.setattr(time, "monotonic", lambda: site.now_s)
    monkeypatch.setattr("mlflow_sysmetrics.distributed.pauses.jitter", lambda _low, high: high)
    return site


def test_a_host_joins_the_run_under_the_launchers_number(site: Site) -> None:
    follower = site.follower()

    assert follower.look() == 2.0
    assert not follower.has_run
    site.runs = [run("ours")]

    assert follower.look() == 30.0
    assert site.joined["ours"].number == 1


def test_it_is_joined_once(site: Site) -> None:
    site.runs = [run("ours")]
    follower = site.follower()
    follower.look()
    first = site.joined["ours"]
    follower.look()

    assert site.joined["ours"] is first


def test_a_host_that_another_has_left_out_of_the_list_lists_all(site: Site) -> None:
    nodes = {0: {"id": "bbbbbb"}, 1: {"id": "aaaaaa"}}
    listed, left_out = run("ours", nodes=nodes), run("ours", nodes=nodes)
    left_out.tags[NODES_TAG] = run("ours").tags[NODES_TAG]
    follower = site.follower()
    for site.runs in ([listed], [listed]):
        follower.look()
    assert site.joined["ours"].tags == {}
    site.runs = [left_out]
    follower.look()

    assert parse_nodes(site.joined["ours"].tags[NODES_TAG]) == nodes_of(listed.tags) == nodes


def test_a_run_that_is_no_longer_open_is_ended_and_the_next_one_joined(site: Site) -> None:
    site.runs = [run("first")]
    follower = site.follower()
    follower.look()
    site.runs = []

    assert follower.look() == 2.0
    assert not site.open_runs
    site.runs = [run("second")]
    follower.look()

    assert site.open_runs == {"second"}


def test_a_nested_run_is_joined_beside_its_parent(site: Site) -> None:
    site.runs = [run("nested"), run("parent")]
    follower = site.follower()
    follower.look()
    site.runs = [run("parent")]
    follower.look()

    assert site.open_runs == {"parent"}


def test_a_host_keeps_its_number_after_a_restart(site: Site) -> None:
    site.runs = [run("ours", nodes={0: {"id": "bbbbbb"}, 5: {"id": "aaaaaa"}})]

    site.follower().look()

    assert site.joined["ours"].number == 5


def test_where_another_process_of_the_host_samples_it_does_not(site: Site) -> None:
    site.runs = [run("ours")]
    site.is_taken = True

    assert site.follower().look() == 2.0
    assert not site.joined


@pytest.mark.parametrize("reason", [AccessDenied("no token"), NotShared("SQLite on NFS")])
def test_a_refusal_ends_the_search_and_is_said(
    site: Site, reason: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    site.failure = reason

    assert site.follower().look() is None
    assert f"not in the job's run: {reason}" in caplog.text


@pytest.mark.parametrize("reason", [StoreFailed("refused"), NoStore("none yet"), OSError("away")])
def test_a_store_that_is_away_is_looked_at_again(
    site: Site, reason: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    site.failure = reason
    follower = site.follower()

    assert [follower.look() for _ in range(3)] == [2.0, 4.0, 8.0]
    assert not caplog.text
    site.failure, site.runs = None, [run("ours")]
    follower.look()

    assert site.open_runs == {"ours"}


def test_a_store_that_fails_ends_no_run_that_was_joined(site: Site) -> None:
    site.runs = [run("ours")]
    follower = site.follower()
    follower.look()
    for site.failure in (StoreFailed("away"), AccessDenied("token has expired")):
        assert follower.look() == 30.0

    assert site.open_runs == {"ours"}


def test_a_server_that_asks_to_be_left_alone_is(site: Site) -> None:
    site.failure = Busy("later", 90.0)

    assert site.follower().look() == 90.0


def test_two_jobs_with_one_address_are_said_and_none_is_joined(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.runs = [run("one"), run("another", leader="cccccc000001")]
    follower = site.follower()
    follower.look()
    follower.look()

    assert not site.joined
    assert caplog.text.count("several jobs have the same address and port (one, another)") == 1


def test_another_job_that_comes_later_changes_nothing(site: Site) -> None:
    site.runs = [run("ours")]
    follower = site.follower()
    follower.look()
    site.runs = [run("another", leader="cccccc000001"), run("ours")]
    follower.look()

    assert site.open_runs == {"ours"}


def test_after_half_an_hour_it_gives_up_and_says_what_to_export(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    follower = site.follower()
    follower.look()
    site.now_s = 1800.0

    assert follower.look() is None
    assert "no open run of this job is in the experiments that are named" in caplog.text
    assert "MLFLOW_EXPERIMENT_NAME are exported for all ranks" in caplog.text


def test_without_a_tracking_uri_no_store_is_asked_and_it_is_said_after_two_minutes(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.uri, site.failure = None, AssertionError("asked")
    follower = site.follower()
    follower.look()
    assert not caplog.text
    site.now_s = 121.0
    follower.look()

    assert "MLFLOW_TRACKING_URI is not set on this host" in caplog.text


def test_after_its_last_run_a_host_goes_quietly(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.runs = [run("ours")]
    follower = site.follower()
    follower.look()
    site.runs = []
    follower.look()
    site.now_s = 1800.0

    assert follower.look() is None
    assert not caplog.text
