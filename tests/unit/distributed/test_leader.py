from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.distributed import domain, leader
from mlflow_sysmetrics.distributed.job import JOB_TAG, Job
from mlflow_sysmetrics.distributed.launchers import LAUNCHERS
from mlflow_sysmetrics.distributed.nodes import HOST_TAG, NODES_TAG
from mlflow_sysmetrics.distributed.roots import roll_of
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.plugin.providers import SysMonitorRunContextProvider
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def lead(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let this process be a rank."""

    def lead(rank: int = 0, nodes: int = 2, key: str | None = "0123") -> None:
        job = Job(LAUNCHERS[0], rank, size=4, nodes=nodes, node=0, key=key, recurs=True)
        monkeypatch.setattr(leader, "this_job", lambda: job)

    return lead


def test_rank_0_of_several_hosts_tags_its_run(lead: Callable[..., None]) -> None:
    lead()
    tags = SysMonitorRunContextProvider().tags()

    key, _, process = tags[JOB_TAG].partition(".")
    (node,) = json.loads(tags[NODES_TAG]).items()
    assert key == "0123"
    assert node[0] == "0"
    assert process.startswith(node[1]["id"])
    assert node[1]["cpus"] > 0


@pytest.mark.parametrize(
    "place", [{"rank": 1}, {"nodes": 1}, {"key": None}], ids=["rank 1", "one host", "no key"]
)
def test_no_other_run_is_tagged(lead: Callable[..., None], place: dict[str, int | None]) -> None:
    lead(**place)

    assert SysMonitorRunContextProvider().tags() == {}
    assert leader.with_node(Settings()).node_id is None


def test_where_it_is_off_nothing_is_tagged(
    lead: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lead()
    monkeypatch.setenv("MLFLOW_SYSMETRICS_DISTRIBUTED", "off")

    assert leader.tags_of_led_job() == {}
    assert leader.host_with_ranks().more_roots() == ()


def test_tags_that_are_excluded_are_not_set_and_names_stand_nowhere(
    lead: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lead()
    monkeypatch.setenv("MLFLOW_SYSMETRICS_EXCLUDE_TAGS", "sys.hostname,sysmetrics.job")

    tags = leader.tags_of_led_job()

    assert tags.keys() == {NODES_TAG, HOST_TAG + json.loads(tags[NODES_TAG])["0"]["id"]}
    assert all("hostname" not in tag and '"host"' not in tag for tag in tags.values())
    assert "host" not in json.loads(tags[NODES_TAG])["0"]


def test_its_keys_have_its_number(lead: Callable[..., None]) -> None:
    lead()

    assert leader.with_node(Settings()).node_id == "node_0"


def test_a_run_that_it_resumes_gets_the_jobs_tag_alone(lead: Callable[..., None]) -> None:
    lead()

    assert leader.tag_of_resumed_run(Settings()).keys() == {JOB_TAG}


def test_ranks_that_open_a_run_together_have_their_hosts_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = Job(LAUNCHERS[0], 3, size=4, nodes=2, node=1, key="0123", recurs=True)
    monkeypatch.setattr(leader, "this_job", lambda: job)

    assert leader.with_node(Settings(), is_shared=True).node_id == "node_1"
    assert leader.with_node(Settings()).node_id is None
    assert leader.with_node(Settings(distributed="off"), is_shared=True).node_id is None


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux'")
def test_a_rank_is_counted_by_the_process_that_samples_for_its_job(
    lead: Callable[..., None],
) -> None:
    lead(rank=1)
    assert not leader.counts_this_rank(os.getpid())
    job = Job(LAUNCHERS[0], 1, size=4, nodes=2, node=0, key="0123", recurs=True)
    roll = roll_of(job, domain.sampling_domain(Host()))
    roll.acquire()

    assert leader.counts_this_rank(os.getpid())
    assert not leader.counts_this_rank(None)
    roll.release()
