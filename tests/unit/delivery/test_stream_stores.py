"""What reaches real stores when answers are lost: everything, once."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.tracking import MlflowClient

from fakes.http_server import Answer, running_server
from fakes.scripted_store import OPENED_MS, sample
from mlflow_sysmetrics.delivery.leftovers import stream_of
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import RunGone, RunNotFound
from mlflow_sysmetrics.delivery.spool import Spool
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.tracking import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fakes.http_server import Server
    from mlflow_sysmetrics.delivery.run_store import RunState, RunStore
    from mlflow_sysmetrics.sampling.sink import Point

# MLflow's use of SQLAlchemy.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),
    pytest.mark.usefixtures("nothing_said"),
]


@pytest.fixture(autouse=True)
def _file_stores_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


class Unreliable:
    """A store that stores some of what it is sent, and then loses its answer.

    Args:
        store: The store.
        stored: How many points it stores of each batch, before it is asked again; None for all.
    """

    def __init__(self, store: RunStore, *stored: int | None) -> None:
        self._store = store
        self.limits = store.limits
        self._stored = list(stored)

    def log(self, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        if not self._stored:
            self._store.log(points, tags)
            return
        stored = points[: self._stored.pop(0)]
        if stored:
            self._store.log(stored, tags)
        raise ConnectionError("the answer is lost")

    def read(self) -> RunState:
        return self._store.read()

    def timestamps(self, key: str) -> frozenset[int]:
        return self._store.timestamps(key)


def steps_of(client: MlflowClient, run_id: str, key: str) -> list[int]:
    return sorted(metric.step for metric in client.get_metric_history(run_id, f"system/{key}"))


def send_all(stream: Stream, store: RunStore) -> None:
    while stream.unsent:
        with suppress(ConnectionError):
            stream.send(store)


@pytest.fixture(params=["file", "sqlite"])
def tracking_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "mlruns")
    shutil.copy(request.getfixturevalue("empty_database"), tmp_path / "runs.db")
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.mark.parametrize("stored", [(0,), (1,), (7,), (None,), (3, 0, None, 5)], ids=str)
def test_what_a_real_store_took_is_not_stored_twice(
    tracking_uri: str, tmp_path: Path, stored: tuple[int | None, ...]
) -> None:
    client = MlflowClient(tracking_uri)
    run_id = client.create_run("0").info.run_id
    address = RunAddress(run_id, tracking_uri, "system/")
    stream = Stream(address, tmp_path / "spool")
    for step in range(8):
        stream.queue.add(sample(step, a=1.0, b=float(step)))

    send_all(stream, Unreliable(open_store(address), *stored))

    assert steps_of(client, run_id, "a") == steps_of(client, run_id, "b") == list(range(8))


def test_what_was_left_of_a_resumed_run_goes_on_after_it(tracking_uri: str, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri)
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "system/a", 1.0, OPENED_MS - 1000, 40)
    address = RunAddress(run_id, tracking_uri, "system/")
    stream = Stream(address, tmp_path, lambda: {"sys.cpu": "EPYC"})
    for step in range(4):
        stream.queue.add(sample(step, a=1.0))
    store = Unreliable(open_store(address), 2)
    with suppress(ConnectionError):
        stream.send(store)
    stream.persist()
    path = stream.spool_path
    assert path is not None
    stream.release()

    send_all(stream_of(Spool.adopt(path), tracking_uri), open_store(address))

    assert steps_of(client, run_id, "a") == [40, 41, 42, 43, 44]
    assert client.get_run(run_id).data.tags["sys.cpu"] == "EPYC"
    assert not path.exists()


def test_a_run_that_is_deleted_is_refused(tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri)
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    address = RunAddress(run_id, tracking_uri, "system/")
    stream = Stream(address)
    for step in range(30):
        stream.queue.add(sample(step, a=1.0))

    with pytest.raises(RunGone, match="deleted"):
        stream.send(open_store(address))


def test_a_run_that_never_was_is_not_found(tracking_uri: str) -> None:
    MlflowClient(tracking_uri).search_experiments()
    address = RunAddress("0" * 32, tracking_uri, "system/")
    stream = Stream(address)
    stream.queue.add(sample(0))

    with pytest.raises(RunNotFound, match="not found"):
        stream.send(open_store(address))


def test_a_metric_that_a_real_store_rejects_costs_no_other(tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri)
    run_id = client.create_run("0").info.run_id
    address = RunAddress(run_id, tracking_uri, "system/")
    stream = Stream(address)
    for step in range(5):
        stream.queue.add(sample(step, **{"a": 1.0, "not ? valid": 2.0, "b": 3.0}))

    send_all(stream, open_store(address))

    assert steps_of(client, run_id, "a") == steps_of(client, run_id, "b") == list(range(5))


# Through a server


class Tracking:
    """A tracking server that stores what it is sent as often as it is sent.

    Attributes:
        lost: How many points it stores of each batch, before its answer is lost.
    """

    def __init__(self, server: Server, *lost: int | None) -> None:
        self.points: list[dict[str, Any]] = []
        self.lost = list(lost)
        self._server = server
        server.script = [self.answer] * 1000

    def answer(self) -> Answer | None:
        request = self._server.requests[-1]
        if request.path.endswith("log-batch"):
            points = request.json["metrics"]
            if self.lost:
                self.points += points[: self.lost.pop(0)]
                return None
            self.points += points
            return Answer()
        if request.path.endswith("runs/get"):
            latest = {point["key"]: point for point in sorted(self.points, key=lambda p: p["step"])}
            data = {"metrics": list(latest.values())}
            return Answer(body=json.dumps({"run": {"info": {"status": "RUNNING"}, "data": data}}))
        key = request.query["metric_key"]
        found = [point for point in self.points if point["key"] == key]
        return Answer(body=json.dumps({"metrics": found}))


@pytest.mark.parametrize("lost", [(0,), (5,), (None,), (2, 0, 3, None)], ids=str)
def test_what_a_server_took_is_not_stored_twice(lost: tuple[int | None, ...]) -> None:
    with running_server() as server:
        tracking = Tracking(server, *lost)
        address = RunAddress("1234", server.url, "system/")
        stream, store = Stream(address), open_store(address)
        for step in range(8):
            stream.queue.add(sample(step, a=1.0, b=float(step)))
        failures = 0
        while stream.unsent:
            try:
                stream.send(store)
            except Exception:  # noqa: BLE001 - as the uploader does
                failures += 1

    assert failures == len(lost)
    for key in ("system/a", "system/b"):
        steps = [point["step"] for point in tracking.points if point["key"] == key]
        assert steps == list(range(8))
