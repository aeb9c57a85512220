"""Replies of servers that take less than MLflow's, or that are not MLflow's at all."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from fakes.http_server import Answer, running_server
from fakes.scripted_store import samples
from mlflow_sysmetrics.delivery import rest
from mlflow_sysmetrics.delivery.rest import UnexpectedAnswerError
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import InvalidPoints, Limits, StoreFailed
from mlflow_sysmetrics.delivery.server_words import find_words
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.sampling.sink import Point

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes.http_server import Server
    from mlflow_sysmetrics.delivery.run_store import RunStore

POINTS = [Point("a", 1.0, 1_700_000_000_000, step) for step in range(40)]
TOO_MANY = '{"Error": {"Code": "UserError", "Message": "at most %d, please"}}'


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def store(server: Server) -> RunStore:
    return open_store(RunAddress("1234", server.url, "system/"))


# Limits


def gives_pages_of(server: Server, most: int, total: int, status: int = 400) -> None:
    """Answer for a history, in pages as large as they are asked for, if that is not too much."""

    def answer() -> Answer:
        query = server.requests[-1].query
        asked, start = int(query["max_results"]), int(query.get("page_token", 0))
        if asked > most:
            return Answer(status, TOO_MANY % most)
        page: dict[str, Any] = {
            "metrics": [{"timestamp": each} for each in range(start, min(start + asked, total))]
        }
        if start + asked < total:
            page["next_page_token"] = str(start + asked)
        return Answer(body=json.dumps(page))

    server.script = [answer] * 1000


@pytest.mark.parametrize("most", [24_999, 1000, 100, 1])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_server_that_gives_smaller_pages_is_asked_for_smaller_ones(
    server: Server, store: RunStore, most: int, status: int
) -> None:
    gives_pages_of(server, most, min(3 * most, 50), status)

    assert store.timestamps("a") == frozenset(range(min(3 * most, 50)))


def test_the_page_size_is_remembered_for_all_runs_of_the_store(server: Server) -> None:
    limits = Limits()
    gives_pages_of(server, 1000, 1)
    open_store(RunAddress("1", server.url, "system/"), limits).timestamps("a")
    server.requests.clear()

    open_store(RunAddress("2", server.url, "system/"), limits).timestamps("a")

    assert len(server.requests) == 1


def test_a_history_that_is_refused_at_any_size_fails_with_the_servers_reason(
    server: Server, store: RunStore
) -> None:
    gives_pages_of(server, 0, 1)

    with pytest.raises(InvalidPoints, match="at most 0, please"):
        store.timestamps("a")

    assert len(server.requests) < 10


@pytest.mark.parametrize("body", [TOO_MANY % 7, '{"error_code": "BAD_REQUEST", "message": "7"}'])
def test_a_server_that_takes_smaller_batches_gets_them_and_that_is_remembered(
    server: Server, body: str
) -> None:
    def takes_seven() -> Answer:
        points = server.requests[-1].json["metrics"]
        if len(points) > 7:
            return Answer(400, body)
        stored.extend(point["step"] for point in points)
        return Answer()

    stored: list[int] = []
    server.script = [takes_seven] * 1000
    limits = Limits()
    for run_id in ("1", "2"):
        stored.clear()
        server.requests.clear()
        address = RunAddress(run_id, server.url, "system/")
        stream = Stream(address)
        for each in samples(range(40)):
            stream.queue.add(each)
        while stream.unsent:
            stream.send(open_store(address, limits))
        assert stored == list(range(40))

    assert limits.batch_points <= 7
    assert all(len(request.json["metrics"]) <= 7 for request in server.requests)


def test_a_metric_that_is_refused_in_any_words_costs_no_other_and_no_batch_size(
    server: Server,
) -> None:
    def refuses_one() -> Answer:
        if server.requests[-1].method == "GET":
            return Answer(body='{"run": {"info": {}, "data": {}}}')
        keys = {each["key"] for each in server.requests[-1].json["metrics"]}
        return Answer(400, TOO_MANY % 1) if "system/bad" in keys else Answer()

    server.script = [refuses_one] * 1000
    limits = Limits()
    address = RunAddress("1", server.url, "system/")
    stream = Stream(address)
    (sample,) = samples([0])
    stream.queue.add(sample._replace(values={"bad": 1.0, **{f"good_{n}": 1.0 for n in range(9)}}))

    stream.send(open_store(address, limits))

    assert stream.unsent == 0
    assert limits.batch_points > 1


# Words


@pytest.mark.parametrize(
    "body",
    [
        '{"error_code": "X", "message": "too many"}',
        '{"error_message": "too many"}',
        '{"error": {"message": "too many", "code": 400}}',
        '{"Error": {"Code": "UserError", "Message": "too many"}}',
        '{"detail": "too many"}',
        '{"detail": [{"loc": ["body"], "msg": "too many"}]}',
        '{"errors": ["too many"]}',
        '{"errors": [{"message": "too many"}]}',
        '{"statusCode": 400, "response": {"inner": {"Message": "too many"}}}',
        '{"message": "{\\"error\\": \\"too many\\"}"}',
        '["too many"]',
        '"too many"',
        "too many",
        "<html><head><style>x{}</style><title>too many</title></head><body>y</body></html>",
        "<!DOCTYPE html><script>x</script><p>too\nmany</p>",
        "too\x1b[31m\x00 many\x07",
    ],
)
def test_the_servers_own_words_are_shown_in_whatever_they_stand(
    server: Server, store: RunStore, body: str
) -> None:
    server.script = [Answer(500, body)]

    with pytest.raises(UnexpectedAnswerError, match=r"^too many \(HTTP 500\)$"):
        store.log(POINTS, {})


def test_words_are_bounded_and_show_no_secret(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "dapi-secret-99")
    uri = server.url.replace("://", "://me:pass-word@")
    words = f"no dapi-secret-99 at {uri}/x?token=abcdefgh for you " + "x" * 10_000
    server.script = [Answer(500, json.dumps({"message": words}))]

    with pytest.raises(UnexpectedAnswerError) as raised:
        open_store(RunAddress("1", uri, "system/")).log(POINTS, {})

    said = str(raised.value)
    assert said.startswith("no *** at http://127.0.0.1")
    assert not any(each in said for each in ("secret-99", "pass-word", "abcdefgh"))
    assert len(said) < 600


@pytest.mark.parametrize("body", ["", "null", "{}", "[]", "1", "[" * 100_000, '{"a":' * 100_000])
def test_a_reply_without_words_has_none(body: str) -> None:
    assert find_words(body) in {"", body}


# What is no reply of MLflow's


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "nothing"),
        ("<html><title>Sign in to Corp</title></html>", "Sign in to Corp"),
        ("null", "null"),
        ('{"error_code": "INTERNAL_ERROR", "message": "no"}', "no"),
        ("200 OK", "200 OK"),
    ],
)
def test_a_page_of_someone_elses_does_not_count_as_stored(
    server: Server, store: RunStore, body: str, said: str
) -> None:
    server.script = [Answer(200, body)]
    stream = Stream(RunAddress("1234", server.url, "system/"))
    for each in samples(range(3)):
        stream.queue.add(each)

    with pytest.raises(UnexpectedAnswerError, match=f"is not MLflow; it says: {said} "):
        stream.send(store)
    assert stream.unsent == 3

    server.script = [Answer(body='{"run": {"info": {}, "data": {}}}'), Answer()]
    while stream.unsent:
        stream.send(store)
    assert len(server.requests[-1].json["metrics"]) == 3


@pytest.mark.parametrize("body", ["{}", '{"run": 1}', '{"run": {"info": null}}', '{"run": {}}'])
def test_a_run_that_is_none_is_an_error(server: Server, store: RunStore, body: str) -> None:
    server.script = [Answer(200, body)]

    with pytest.raises(UnexpectedAnswerError, match="is not MLflow"):
        store.read()


@pytest.mark.parametrize("body", ['{"metrics": 1}', '{"metrics": [1]}', '{"metrics": [{}]}'])
def test_a_history_that_is_none_is_an_error(server: Server, store: RunStore, body: str) -> None:
    server.script = [Answer(200, body)]

    with pytest.raises(UnexpectedAnswerError, match="is not MLflow"):
        store.timestamps("a")


def test_a_history_that_goes_round_in_circles_is_an_error(server: Server, store: RunStore) -> None:
    server.script = [Answer(body='{"metrics": [], "next_page_token": "again"}')] * 1000

    with pytest.raises(UnexpectedAnswerError, match="the same page"):
        store.timestamps("a")


# Replies without end


@contextmanager
def endless_server(status: str, piece: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server whose replies go on until the client hangs up."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
                    while not over.wait(pause_s):
                        connection.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


@pytest.mark.parametrize("status", ["200 OK", "500 No"])
def test_a_reply_without_end_is_given_up(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_REPLY_BYTES", 2**18)
    with endless_server(status, b" " * 2**14) as url:
        store = open_store(RunAddress("1", url, "system/"))
        for call in (lambda: store.log(POINTS, {}), store.read, lambda: store.timestamps("a")):
            with pytest.raises(UnexpectedAnswerError):
                call()


@pytest.mark.parametrize("status", ["200 OK", "500 No"])
def test_a_reply_that_comes_byte_by_byte_is_given_up(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "REPLY_TIMEOUT_S", 0.2)
    with endless_server(status, b" ", 0.02) as url:
        store = open_store(RunAddress("1", url, "system/"))
        with pytest.raises(StoreFailed):
            store.log(POINTS, {})
