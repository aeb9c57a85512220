from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.distributed import leader
from mlflow_sysmetrics.distributed.job import JOB_TAG, Job
from mlflow_sysmetrics.distributed.launchers import LAUNCHERS
from mlflow_sysmetrics.distributed.nodes import NODES_TAG
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

    assert tags.keys() == {NODES_TAG}
    assert "host" not in json.loads(tags[NODES_TAG])["0"]


def test_its_keys_have_its_number(lead: Callable[..., None]) -> None:
    lead()

    assert leader.with_node(Settings()).node_id == "node_0"


def test_a_run_that_it_resumes_gets_the_jobs_tag_alone(lead: Callable[..., None]) -> None:
    lead()

    assert leader.tag_of_resumed_run(Settings()).keys() == {JOB_TAG}
