from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest
from databricks.sdk.clock import RealClock
from mlflow.entities import RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.rest_utils import http_request

from fakes.http_server import Answer, mlflow_error, running_server
from fakes.scripted_store import samples
from fakes.simulation import LONG_S, Simulation
from mlflow_sysmetrics.delivery import rest
from mlflow_sysmetrics.delivery.rest import UnexpectedAnswerError, parse_retry_after
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import (
    AccessDenied,
    Busy,
    InvalidPoints,
    LastPoint,
    RunNotFound,
    StoreFailed,
)
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.sampling.sink import Point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

    from fakes.http_server import Server
    from mlflow_sysmetrics.delivery.run_store import RunStore

POINTS = [
    Point("cpu_utilization_percentage", 50.0, 1_700_000_000_000, 7),
    Point("process/num_threads", 4.0, 1_700_000_000_000, 7),
]
HTML = "<html><body>It is not here</body></html>"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def store(server: Server) -> RunStore:
    return open_store(RunAddress("1234", server.url, "system/"))


def a_run(
    metrics: list[dict[str, Any]] | None = None,
    tags: list[dict[str, str]] | None = None,
    **info: str,
) -> Answer:
    run = {
        "info": {"run_id": "1234", "status": "RUNNING", "lifecycle_stage": "active", **info},
        "data": {"metrics": metrics or [], "tags": tags or []},
    }
    return Answer(body=json.dumps({"run": run}))


# When all is well


def test_points_and_tags_are_one_request(server: Server, store: RunStore) -> None:
    store.log(POINTS, {"sysmetrics.dropped_samples": "3"})

    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/2.0/mlflow/runs/log-batch")
    assert request.json == {
        "run_id": "1234",
        "metrics": [
            {
                "key": "system/cpu_utilization_percentage",
                "value": 50.0,
                "timestamp": 1_700_000_000_000,
                "step": 7,
            },
            {
                "key": "system/process/num_threads",
                "value": 4.0,
                "timestamp": 1_700_000_000_000,
                "step": 7,
            },
        ],
        "tags": [{"key": "sysmetrics.dropped_samples", "value": "3"}],
    }


def test_an_answer_need_not_say_anything(server: Server, store: RunStore) -> None:
    server.script = [Answer(body="{}")]

    store.log(POINTS, {})

    assert len(server.requests) == 1


def test_a_run_is_read(server: Server, store: RunStore) -> None:
    metrics = [
        {"key": "loss", "value": 0.5, "timestamp": 9, "step": 900},
        {"key": "system/cpu", "value": 0.5, "timestamp": 5, "step": 41},
        {"key": "system/process/num_threads", "value": 1.0, "timestamp": 4},
    ]
    server.script = [a_run(metrics, [{"key": "sys.cpu", "value": "EPYC"}])]

    state = store.read()

    assert state.latest == {"cpu": LastPoint(41, 5), "process/num_threads": LastPoint(0, 4)}
    assert state.next_step == 42
    assert list(state.tags) == ["sys.cpu"]
    assert (state.is_deleted, state.has_ended) == (False, False)
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/api/2.0/mlflow/runs/get")
    assert request.query == {"run_id": "1234"}


def test_a_run_that_has_nothing_is_read(server: Server, store: RunStore) -> None:
    server.script = [Answer(body='{"run": {"info": {"status": "FINISHED"}}}')]

    state = store.read()

    assert (list(state.tags), state.latest, state.next_step) == ([], {}, 0)
    assert state.has_ended


@pytest.mark.parametrize(
    ("info", "is_deleted", "has_ended"),
    [
        ({"lifecycle_stage": "deleted"}, True, False),
        ({"status": "FINISHED"}, False, True),
        ({"status": "KILLED"}, False, True),
        ({"status": "SCHEDULED"}, False, False),
    ],
)
def test_a_run_tells_what_has_become_of_it(
    server: Server, store: RunStore, info: dict[str, Any], *, is_deleted: bool, has_ended: bool
) -> None:
    server.script = [a_run(**info)]

    state = store.read()

    assert (state.is_deleted, state.has_ended) == (is_deleted, has_ended)


def test_a_history_is_read_page_by_page(server: Server, store: RunStore) -> None:
    pages = [
        {"metrics": [{"timestamp": 1}, {"timestamp": 2}], "next_page_token": "second"},
        {"metrics": [{"timestamp": 3}], "next_page_token": "third"},
        {"metrics": [{"timestamp": 4}]},
    ]
    server.script = [Answer(body=json.dumps(page)) for page in pages]

    assert store.timestamps("cpu") == {1, 2, 3, 4}

    assert {request.path for request in server.requests} == {"/api/2.0/mlflow/metrics/get-history"}
    assert {request.query["metric_key"] for request in server.requests} == {"system/cpu"}
    assert [request.query.get("page_token") for request in server.requests] == [
        None,
        "second",
        "third",
    ]


def test_a_metric_without_a_history_has_no_timestamps(server: Server, store: RunStore) -> None:
    assert store.timestamps("cpu") == frozenset()


# What an answer means


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (Answer(401, HTML), AccessDenied),
        (Answer(403, HTML), AccessDenied),
        (mlflow_error(403, "PERMISSION_DENIED"), AccessDenied),
        (mlflow_error(401, "UNAUTHENTICATED"), AccessDenied),
        (mlflow_error(404, "RESOURCE_DOES_NOT_EXIST"), RunNotFound),
        (Answer(404, HTML), UnexpectedAnswerError),
        (mlflow_error(404, "ENDPOINT_NOT_FOUND"), UnexpectedAnswerError),
        (Answer(429, ""), UnexpectedAnswerError),
        (Answer(429, HTML, {"Retry-After": "7"}), Busy),
        (mlflow_error(429, "REQUEST_LIMIT_EXCEEDED", Retry_After="7"), Busy),
        (Answer(503, HTML, {"Retry-After": "7"}), Busy),
        (Answer(503, HTML), UnexpectedAnswerError),
        (Answer(503, HTML, {"Retry-After": "soon"}), UnexpectedAnswerError),
        (mlflow_error(500, "INTERNAL_ERROR"), UnexpectedAnswerError),
        (Answer(500, HTML), UnexpectedAnswerError),
        (Answer(502, "null"), UnexpectedAnswerError),
        (Answer(500, '["a list"]'), UnexpectedAnswerError),
        (Answer(500, '{"error_code": null}'), UnexpectedAnswerError),
        (Answer(204, ""), UnexpectedAnswerError),
    ],
)
def test_each_answer_has_its_meaning_after_one_attempt(
    server: Server, store: RunStore, answer: Answer, meaning: type[Exception]
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.log(POINTS, {}),
        store.read,
        lambda: store.timestamps("cpu"),
    ]
    server.script = [answer] * len(calls)

    for call in calls:
        with pytest.raises(meaning, match=str(answer.status)) as raised:
            call()
        assert type(raised.value) is meaning

    assert len(server.requests) == len(calls)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (Answer(400, HTML), UnexpectedAnswerError),
        (Answer(400, '{"Error": {"Message": "no"}}'), InvalidPoints),
        (Answer(422, '{"detail": [{"msg": "no"}]}'), InvalidPoints),
        (mlflow_error(400, "INVALID_PARAMETER_VALUE"), InvalidPoints),
        (Answer(413, HTML), InvalidPoints),
    ],
)
def test_a_request_that_is_refused_has_its_meaning(
    server: Server, store: RunStore, answer: Answer, meaning: type[Exception]
) -> None:
    server.script = [answer] * 100

    for call in (lambda: store.log(POINTS, {}), store.read, lambda: store.timestamps("cpu")):
        with pytest.raises(meaning, match=str(answer.status)):
            call()


def test_the_servers_reason_is_told(server: Server, store: RunStore) -> None:
    server.script = [mlflow_error(404, "RESOURCE_DOES_NOT_EXIST", "No Run with id=1234 exists")]

    with pytest.raises(RunNotFound, match=r"^No Run with id=1234 exists \(HTTP 404\)$"):
        store.log(POINTS, {})


def test_too_much_at_once_is_told_from_what_is_wrong(server: Server, store: RunStore) -> None:
    server.script = [Answer(413, HTML), mlflow_error(400, "INVALID_PARAMETER_VALUE")]

    for is_too_large in (True, False):
        with pytest.raises(InvalidPoints) as raised:
            store.log(POINTS, {})
        assert raised.value.is_too_large is is_too_large


@pytest.mark.parametrize("body", [HTML, '{"run"', "", " \n", "null", "[]", '"ok"'])
def test_an_answer_of_something_else_is_not_taken_for_success(
    server: Server, store: RunStore, body: str
) -> None:
    server.script = [Answer(200, body)] * 2

    with pytest.raises(UnexpectedAnswerError, match="not MLflow"):
        store.log(POINTS, {})
    with pytest.raises(UnexpectedAnswerError, match="not MLflow"):
        store.read()


def test_a_server_that_hangs_up_may_be_well_again(server: Server, store: RunStore) -> None:
    server.script = [lambda: None]

    with pytest.raises(Exception, match="Connection aborted") as raised:
        store.log(POINTS, {})
    assert not isinstance(raised.value, RunNotFound | AccessDenied | InvalidPoints | Busy)

    store.log(POINTS, {})


def test_a_server_that_is_not_there_fails_at_once(store: RunStore) -> None:
    gone = open_store(RunAddress("1234", "http://127.0.0.1:1", "system/"))

    with pytest.raises(Exception, match="Connection refused") as raised:
        gone.log(POINTS, {})
    assert not isinstance(raised.value, RunNotFound | AccessDenied | InvalidPoints | Busy)


def test_a_server_that_hangs_is_waited_for_only_so_long(
    server: Server, store: RunStore, mocker: MockerFixture
) -> None:
    mocker.patch.object(rest, "REQUEST_TIMEOUT_S", 0.05)
    over = threading.Event()
    server.script = [lambda: None if over.wait(LONG_S) else Answer()]

    with pytest.raises(Exception, match=r"(?i)timed? ?out") as raised:
        store.log(POINTS, {})
    over.set()

    assert not isinstance(raised.value, RunNotFound | AccessDenied | InvalidPoints | Busy)
    assert len(server.requests) == 1


# When to come again


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("100000", 600.0),
        ("inf", 600.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", None),  # a time without zone
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_a_header_tells_when_to_come_again(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_a_header_may_tell_the_time_of_day(server: Server, store: RunStore) -> None:
    in_a_minute = datetime.now(timezone.utc) + timedelta(seconds=61)
    header = format_datetime(in_a_minute, usegmt=True)
    server.script = [Answer(503, HTML, {"Retry-After": header})]

    with pytest.raises(Busy) as raised:
        store.log(POINTS, {})

    assert 30 < raised.value.retry_after_s <= 61


# Workspaces


@pytest.mark.parametrize("workspace", ["team-a", None])
def test_a_run_stays_in_its_workspace(
    server: Server, workspace: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(RunAddress("1234", server.url, "system/", workspace))
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-b")
    server.script = [Answer(), a_run()]

    store.log(POINTS, {})
    store.read()

    headers = [request.headers.get("X-MLFLOW-WORKSPACE") for request in server.requests]
    assert headers == [workspace] * 2


# The SDK of Databricks


@pytest.mark.skipif(
    "retry_timeout_seconds" not in signature(http_request).parameters,
    reason="this MLflow lets nobody bound the SDK's retries",
)
@pytest.mark.parametrize(
    "answer",
    [mlflow_error(429, "REQUEST_LIMIT_EXCEEDED"), mlflow_error(503, "TEMPORARILY_UNAVAILABLE")],
)
def test_the_sdk_of_databricks_does_not_go_on_for_minutes(
    server: Server, answer: Answer, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", server.url)
    monkeypatch.setenv("DATABRICKS_TOKEN", "secret")
    clock = Simulation()
    mocker.patch.object(RealClock, "time", clock.now_s)
    mocker.patch.object(RealClock, "sleep", clock.pass_time)

    def fails() -> Answer:
        is_of_mlflow = server.requests[-1].path.startswith("/api")
        return answer if is_of_mlflow else mlflow_error(404, "NOT_FOUND")

    server.script = [fails] * 1000
    store = open_store(RunAddress("1234", "databricks", "system/"))

    with pytest.raises(StoreFailed):
        store.log(POINTS, {})

    assert clock.now_s() < 5


# Credentials


def test_credentials_are_read_anew_for_each_request(
    server: Server, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.log(POINTS, {})
    for token in ("first", "second"):
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
        store.log(POINTS, {})
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    store.log(POINTS, {})

    assert [request.headers.get("Authorization") for request in server.requests] == [
        None,
        "Bearer first",
        "Bearer second",
        "Basic bWU6c2VjcmV0",
    ]


def test_users_of_the_client_are_told_apart_from_us_by_nothing(
    server: Server, store: RunStore
) -> None:
    """What stands before a server may let only MLflow's client through."""
    store.log(POINTS, {})
    MlflowClient(server.url).log_batch("1234", tags=[RunTag("key", "value")])

    ours, mlflows = server.requests
    assert ours.path == mlflows.path
    assert ours.headers["User-Agent"] == mlflows.headers["User-Agent"]
    assert ours.headers.keys() == mlflows.headers.keys()


# With a stream


def test_a_server_that_takes_less_at_once_gets_less(server: Server, store: RunStore) -> None:
    def takes_three() -> Answer:
        points = server.requests[-1].json["metrics"]
        if len(points) > 3:
            return Answer(413, HTML)
        stored.extend(points)
        return Answer()

    stored: list[dict[str, Any]] = []
    server.script = [takes_three] * 100
    stream = Stream(RunAddress("1234", server.url, "system/"))
    for each in samples(range(20)):
        stream.queue.add(each)

    while stream.unsent:
        stream.send(store)

    assert [point["step"] for point in stored] == list(range(20))
