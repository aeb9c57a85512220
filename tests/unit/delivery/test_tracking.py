from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Metric, Run, RunData, RunInfo, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking import MlflowClient

from mlflow_sysmetrics.delivery.rest import RestRunStore
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import (
    AccessDenied,
    InvalidPoints,
    LastPoint,
    RunNotFound,
    StoreFailed,
)
from mlflow_sysmetrics.delivery.tracking import ClientRunStore, open_store
from mlflow_sysmetrics.sampling.sink import Point

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

MEANINGS = [
    (databricks_pb2.RESOURCE_DOES_NOT_EXIST, RunNotFound),
    (databricks_pb2.INVALID_PARAMETER_VALUE, InvalidPoints),
    (databricks_pb2.INVALID_STATE, InvalidPoints),
    (databricks_pb2.PERMISSION_DENIED, AccessDenied),
    (databricks_pb2.UNAUTHENTICATED, AccessDenied),
]
PASSING = [
    MlflowException("try later", databricks_pb2.TEMPORARILY_UNAVAILABLE),
    MlflowException("locked", databricks_pb2.INTERNAL_ERROR),
    MlflowException("too many requests", databricks_pb2.REQUEST_LIMIT_EXCEEDED),
    MlflowException("no such endpoint yet", databricks_pb2.ENDPOINT_NOT_FOUND),
    ConnectionError("refused"),
]
POINT = Point("cpu_utilization_percentage", 50.0, 1_700_000_000_000, 7)
ADDRESS = RunAddress("1234", "http://somewhere", "system/node-3/")


@pytest.fixture
def client(mocker: MockerFixture) -> Mock:
    """MLflow's client of the store."""
    client: Mock = mocker.create_autospec(MlflowClient, instance=True)
    return client


@pytest.fixture
def store(client: Mock) -> ClientRunStore:
    return ClientRunStore(ADDRESS, client)


def run_with(
    *,
    metrics: dict[str, int] | None = None,
    tags: dict[str, str] | None = None,
    status: str = "RUNNING",
    stage: str = "active",
) -> Run:
    """A run with metrics, by key their latest step, and tags."""
    data = RunData(
        metrics=[Metric(key, 1.0, 1000 + step, step) for key, step in (metrics or {}).items()],
        tags=[RunTag(key, value) for key, value in (tags or {}).items()],
    )
    return Run(RunInfo("1234", "0", "user", status, 0, None, stage), data)


def calls(store: ClientRunStore) -> list[Callable[[], object]]:
    """All that may be asked of a store."""
    return [
        lambda: store.log([POINT], {}),
        store.read,
        lambda: store.timestamps(POINT.key),
    ]


# Which way


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "https://127.0.0.1:1", "databricks"])
def test_a_server_is_asked_directly(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("DATABRICKS_TOKEN", "secret")

    assert isinstance(open_store(RunAddress("1234", uri, "system/")), RestRunStore)


def test_another_store_is_asked_by_mlflows_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    assert isinstance(open_store(RunAddress("1234", str(tmp_path), "system/")), ClientRunStore)


def test_a_plugin_that_logs_in_its_own_way_is_left_to_it(mocker: MockerFixture) -> None:
    class Plugin(RestStore):
        def log_batch(self, run_id: str, metrics: object, params: object, tags: object) -> None:
            """As it likes."""

    client = mocker.patch("mlflow_sysmetrics.delivery.tracking.MlflowClient")
    store = Plugin(lambda: None)  # type: ignore[no-untyped-call] # MLflow has no types
    client.return_value._tracking_client.store = store

    assert isinstance(open_store(ADDRESS), ClientRunStore)


# Logging


def test_points_and_tags_are_logged_in_one_synchronous_batch(
    store: ClientRunStore, client: Mock
) -> None:
    store.log([POINT, POINT._replace(key="disk_usage_percentage", value=1.5)], {"sys.cpu": "EPYC"})

    client.log_batch.assert_called_once()
    ((run_id,), keywords) = client.log_batch.call_args
    assert run_id == "1234"
    assert keywords["synchronous"] is True
    assert [dict(metric) for metric in keywords["metrics"]] == [
        dict(Metric("system/node-3/cpu_utilization_percentage", 50.0, 1_700_000_000_000, 7)),
        dict(Metric("system/node-3/disk_usage_percentage", 1.5, 1_700_000_000_000, 7)),
    ]
    assert [(tag.key, tag.value) for tag in keywords["tags"]] == [("sys.cpu", "EPYC")]


@pytest.mark.parametrize(("code", "meaning"), MEANINGS)
def test_what_a_store_refuses_has_a_meaning(
    store: ClientRunStore, client: Mock, code: int, meaning: type[Exception]
) -> None:
    client.log_batch.side_effect = MlflowException("not this", code)
    client.get_run.side_effect = MlflowException("not this", code)
    client.get_metric_history.side_effect = MlflowException("not this", code)

    for call in calls(store):
        with pytest.raises(meaning, match="not this"):
            call()


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_may_pass_is_told_in_its_own_words(
    store: ClientRunStore, client: Mock, error: Exception
) -> None:
    client.log_batch.side_effect = client.get_run.side_effect = error
    client.get_metric_history.side_effect = error

    for call in calls(store):
        with pytest.raises(StoreFailed, match=f"^{error}$"):
            call()


# Reading


@pytest.mark.parametrize(
    ("metrics", "latest", "next_step"),
    [
        ({}, {}, 0),
        ({"loss": 900}, {}, 0),
        ({"system/node-4/cpu_load": 30}, {}, 0),
        ({"system/node-3/cpu_load": 0}, {"cpu_load": LastPoint(0, 1000)}, 1),
        (
            {"loss": 900, "system/node-3/cpu_load": 30, "system/node-3/process/num_threads": 41},
            {"cpu_load": LastPoint(30, 1030), "process/num_threads": LastPoint(41, 1041)},
            42,
        ),
    ],
)
def test_a_run_tells_the_last_points_of_our_metrics(
    store: ClientRunStore,
    client: Mock,
    metrics: dict[str, int],
    latest: dict[str, LastPoint],
    next_step: int,
) -> None:
    client.get_run.return_value = run_with(metrics=metrics, tags={"mlflow.user": "me"})

    state = store.read()

    assert state.latest == latest
    assert state.next_step == next_step
    assert set(state.tags) == {"mlflow.user"}
    assert client.method_calls == [("get_run", ("1234",))]


@pytest.mark.parametrize(
    ("status", "has_ended"),
    [("RUNNING", False), ("SCHEDULED", False), ("FINISHED", True), ("FAILED", True)],
)
def test_a_run_tells_whether_it_has_ended(
    store: ClientRunStore, client: Mock, status: str, *, has_ended: bool
) -> None:
    client.get_run.return_value = run_with(status=status)

    assert store.read().has_ended is has_ended


@pytest.mark.parametrize(("stage", "is_deleted"), [("active", False), ("deleted", True)])
def test_a_run_tells_whether_it_is_deleted(
    store: ClientRunStore, client: Mock, stage: str, *, is_deleted: bool
) -> None:
    client.get_run.return_value = run_with(stage=stage)

    assert store.read().is_deleted is is_deleted


def test_the_timestamps_of_a_metric_are_those_of_its_history(
    store: ClientRunStore, client: Mock
) -> None:
    client.get_metric_history.return_value = [Metric("", 1.0, 5, 0), Metric("", 1.0, 7, 1)]

    assert store.timestamps("process/num_threads") == {5, 7}
    client.get_metric_history.assert_called_once_with("1234", "system/node-3/process/num_threads")
