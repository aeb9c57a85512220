"""What a tracking server is asked, and what its answers mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import fluent

from fakes.http_server import Answer, mlflow_error, running_server
from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy, StoreFailed
from mlflow_sysmetrics.distributed.job import JOB_TAG
from mlflow_sysmetrics.distributed.run_search import RunSearch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes.http_server import Server

FOUND = {
    "runs": [
        {
            "info": {"run_id": "ours", "experiment_id": "7", "start_time": 1000},
            "data": {"tags": [{"key": JOB_TAG, "value": "key.aaaaaa000001"}]},
        }
    ]
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    with running_server() as server:
        yield server


def test_where_nothing_is_named_two_requests_find_the_run_and_then_one(server: Server) -> None:
    experiments = Answer(body=json.dumps({"experiments": [{"experiment_id": "7"}]}))
    server.script = [experiments, Answer(body=json.dumps(FOUND)), Answer(body=json.dumps(FOUND))]
    search = RunSearch(server.url)

    (run,) = search.find("key")
    search.find("key")

    assert (run.run_id, run.start_ms, run.leader) == ("ours", 1000, "aaaaaa000001")
    assert [request.path.removeprefix("/api/2.0/mlflow/") for request in server.requests] == [
        "experiments/search",
        "runs/search",
        "runs/search",
    ]
    asked = server.requests[1].json
    assert asked["experiment_ids"] == ["7"]
    assert asked["filter"] == (f"tags.`{JOB_TAG}` LIKE 'key.%' and attributes.status = 'RUNNING'")


def test_an_experiment_that_rank_0_has_not_made_yet_is_no_failure(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "new")
    server.script = [mlflow_error(404, "RESOURCE_DOES_NOT_EXIST"), Answer(), Answer()]

    assert RunSearch(server.url).find("key") == []


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (mlflow_error(401, "UNAUTHENTICATED"), AccessDenied),
        (mlflow_error(403, "PERMISSION_DENIED"), AccessDenied),
        (Answer(429, headers={"Retry-After": "30"}), Busy),
        (Answer(503, "<html>away</html>"), StoreFailed),
    ],
    ids=["no token", "no permission", "too many requests", "away"],
)
def test_an_answer_that_is_none_says_what_it_means_after_one_request(
    server: Server, answer: Answer, meaning: type[Exception]
) -> None:
    server.script = [answer]

    with pytest.raises(meaning):
        RunSearch(server.url).find("key")

    assert len(server.requests) == 1
