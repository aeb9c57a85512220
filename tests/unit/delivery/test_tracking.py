from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Metric, Run, RunData, RunInfo, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2
from mlflow.tracking import MlflowClient

from mlflow_sysmetrics.delivery import tracking
from mlflow_sysmetrics.delivery.outbox import Point
from mlflow_sysmetrics.delivery.tracking import Refused, RunStore

if TYPE_CHECKING:
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

PERMANENT = [
    databricks_pb2.RESOURCE_DOES_NOT_EXIST,
    databricks_pb2.INVALID_PARAMETER_VALUE,
    databricks_pb2.INVALID_STATE,
    databricks_pb2.PERMISSION_DENIED,
    databricks_pb2.ENDPOINT_NOT_FOUND,
]
PASSING = [
    MlflowException("try later", databricks_pb2.TEMPORARILY_UNAVAILABLE),
    MlflowException("locked", databricks_pb2.INTERNAL_ERROR),
    MlflowException("too many requests", databricks_pb2.REQUEST_LIMIT_EXCEEDED),
    MlflowException("the token has expired", databricks_pb2.UNAUTHENTICATED),
    ConnectionError("refused"),
]
POINT = Point("cpu_utilization_percentage", 50.0, 1_700_000_000_000, 7)


@pytest.fixture
def client(mocker: MockerFixture) -> Mock:
    """MLflow's client of the store."""
    client: Mock = mocker.create_autospec(MlflowClient, instance=True)
    mocker.patch.object(tracking, "MlflowClient", return_value=client)
    return client


@pytest.fixture
def store(client: Mock) -> RunStore:
    return RunStore("1234", "http://somewhere", "system/node-3/")


def run_with(*, metrics: dict[str, int] | None = None, tags: dict[str, str] | None = None) -> Run:
    """A run with metrics, by key their latest step, and tags."""
    data = RunData(
        metrics=[Metric(key, 1.0, 0, step) for key, step in (metrics or {}).items()],
        tags=[RunTag(key, value) for key, value in (tags or {}).items()],
    )
    return Run(RunInfo("1234", "0", "user", "RUNNING", 0, None, "active"), data)


# Logging


def test_points_are_logged_in_one_synchronous_batch(store: RunStore, client: Mock) -> None:
    store.log([POINT, POINT._replace(key="disk_usage_percentage", value=1.5)])

    client.log_batch.assert_called_once()
    ((run_id,), keywords) = client.log_batch.call_args
    assert run_id == "1234"
    assert keywords["synchronous"] is True
    assert [dict(metric) for metric in keywords["metrics"]] == [
        dict(Metric("system/node-3/cpu_utilization_percentage", 50.0, 1_700_000_000_000, 7)),
        dict(Metric("system/node-3/disk_usage_percentage", 1.5, 1_700_000_000_000, 7)),
    ]
    assert not keywords["tags"]


@pytest.mark.parametrize("code", PERMANENT, ids=databricks_pb2.ErrorCode.Name)
def test_an_answer_that_will_not_change_is_a_refusal(
    store: RunStore, client: Mock, code: int
) -> None:
    client.log_batch.side_effect = MlflowException("the run is deleted", code)

    with pytest.raises(Refused, match="the run is deleted"):
        store.log([POINT])


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_may_pass_is_none(store: RunStore, client: Mock, error: Exception) -> None:
    client.log_batch.side_effect = error

    with pytest.raises(type(error)) as raised:
        store.log([POINT])
    assert raised.value is error


# Resuming


@pytest.mark.parametrize(
    ("metrics", "first_step"),
    [
        ({}, 0),
        ({"loss": 900}, 0),
        ({"system/node-4/cpu_utilization_percentage": 30}, 0),
        ({"system/node-3/cpu_utilization_percentage": 0}, 1),
        (
            {
                "loss": 900,
                "system/node-3/cpu_utilization_percentage": 30,
                "system/node-3/process/num_threads": 41,
            },
            42,
        ),
    ],
)
def test_steps_go_on_after_the_last_of_ours(
    store: RunStore, client: Mock, metrics: dict[str, int], first_step: int
) -> None:
    client.get_run.return_value = run_with(metrics=metrics)

    assert store.resume({}) == first_step
    assert client.method_calls == [("get_run", ("1234",))]


def test_a_run_without_our_tags_gets_them(store: RunStore, client: Mock) -> None:
    client.get_run.return_value = run_with(tags={"mlflow.user": "me"})

    store.resume({"sys.cpu": "EPYC", "sys.cpu_cores": "64"})

    (tags,) = [call.kwargs["tags"] for call in client.log_batch.call_args_list]
    assert {tag.key: tag.value for tag in tags} == {"sys.cpu": "EPYC", "sys.cpu_cores": "64"}


def test_a_run_that_has_tags_of_ours_keeps_them(store: RunStore, client: Mock) -> None:
    client.get_run.return_value = run_with(tags={"sys.cpu": "the host of its first half"})

    store.resume({"sys.cpu": "EPYC", "sys.cpu_cores": "64"})

    client.log_batch.assert_not_called()


def test_a_run_that_is_gone_cannot_be_resumed(store: RunStore, client: Mock) -> None:
    client.get_run.side_effect = MlflowException("no run", databricks_pb2.RESOURCE_DOES_NOT_EXIST)

    with pytest.raises(Refused, match="no run"):
        store.resume({})


def test_a_store_that_does_not_answer_is_asked_again_later(store: RunStore, client: Mock) -> None:
    client.get_run.side_effect = ConnectionError("refused")

    with pytest.raises(ConnectionError):
        store.resume({})


def test_tags_that_are_refused_are_a_refusal(store: RunStore, client: Mock) -> None:
    client.get_run.return_value = run_with()
    client.log_batch.side_effect = MlflowException("read-only", databricks_pb2.PERMISSION_DENIED)

    with pytest.raises(Refused, match="read-only"):
        store.resume({"sys.cpu": "EPYC"})
