from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Run, RunData, RunInfo, RunTag
from mlflow.tracking._tracking_service.client import TrackingServiceClient

from mlflow_sysmetrics.plugin import client_patch
from mlflow_sysmetrics.plugin.client_patch import tags_resolved_by
from mlflow_sysmetrics.runs import monitors
from mlflow_sysmetrics.runs.registry import RunRequest
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

URI = "http://somewhere"
CONTEXT = {"mlflow.source.name": "train.py"}
MLFLOWS = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"

pytestmark = pytest.mark.usefixtures("nothing_said")


class Client(TrackingServiceClient):
    """One whose runs are in no store."""

    def __init__(self) -> None:
        self.tracking_uri = URI

    def opened(self, tags: dict[str, str]) -> str:
        run_id: str = self.create_run(tags).info.run_id
        return run_id

    def end(self, run_id: str, status: str = "FINISHED") -> None:
        self.set_terminated(run_id, status)  # type: ignore[no-untyped-call] # MLflow has no types


class FakeStore:
    """What MLflow's client does with a store."""

    def __init__(self) -> None:
        self.terminated: list[tuple[str, str]] = []
        self.failure: Exception | None = None
        self._runs = 0

    def create_run(self, tags: dict[str, str]) -> Run:
        if self.failure is not None:
            raise self.failure
        self._runs += 1
        info = RunInfo(f"run-{self._runs}", "0", "me", "RUNNING", 1, None, "active")
        return Run(info, RunData(tags=[RunTag(*tag) for tag in tags.items()]))

    def set_terminated(self, run_id: str, status: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.terminated.append((run_id, status))


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """Where the client's calls arrive; its methods are not wrapped yet."""
    store = FakeStore()

    def create_run(_client: Client, tags: dict[str, str]) -> Run:
        return store.create_run(tags)

    def set_terminated(_client: Client, run_id: str, status: str) -> None:
        store.set_terminated(run_id, status)

    monkeypatch.setattr(TrackingServiceClient, "create_run", create_run)
    monkeypatch.setattr(TrackingServiceClient, "set_terminated", set_terminated)
    monkeypatch.setenv(MLFLOWS, "true")
    client_patch._forget()
    return store


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def monitor(mocker: MockerFixture) -> Mock:
    """The class whose instances sample."""
    monitor: Mock = mocker.patch.object(monitors, "RunMonitor")
    return monitor


def test_the_next_run_of_a_client_that_resolved_tags_is_sampled(
    client: Client, monitor: Mock
) -> None:
    tags_resolved_by("train")

    assert client.opened(CONTEXT) == "run-1"
    monitor.assert_called_once_with(
        RunRequest("run-1", URI, Settings.from_env(), resumed=False, poll_status=True)
    )
    monitor.return_value.start.assert_called_once_with()
    monitor.return_value.finish.assert_not_called()


def test_its_client_ends_the_sampling(client: Client, monitor: Mock, store: FakeStore) -> None:
    tags_resolved_by("train")
    run_id = client.opened(CONTEXT)

    client.end("another", "KILLED")
    monitor.return_value.finish.assert_not_called()
    for _ in range(2):
        client.end(run_id, "FAILED")

    monitor.return_value.finish.assert_called_once_with()
    assert store.terminated == [("another", "KILLED"), (run_id, "FAILED"), (run_id, "FAILED")]


def test_it_ends_also_where_the_run_cannot_be_terminated(
    client: Client, monitor: Mock, store: FakeStore
) -> None:
    tags_resolved_by("train")
    run_id = client.opened(CONTEXT)
    store.failure = OSError("no server")

    with pytest.raises(OSError, match="no server"):
        client.end(run_id)

    monitor.return_value.finish.assert_called_once_with()


@pytest.mark.parametrize("module", ["mlflow", "mlflow.sklearn", "mlflow.tracking.fluent"])
def test_what_mlflow_resolves_tags_for_is_not_a_clients(
    client: Client, monitor: Mock, module: str
) -> None:
    tags_resolved_by("train")
    tags_resolved_by(module)

    client.opened(CONTEXT)

    monitor.assert_not_called()


def test_a_plugin_whose_name_begins_like_mlflows_is_a_client(client: Client, monitor: Mock) -> None:
    tags_resolved_by("mlflow_on_our_cluster.launch")

    client.opened(CONTEXT)

    monitor.assert_called_once()


def test_only_one_run_follows_and_it_has_context_tags(client: Client, monitor: Mock) -> None:
    tags_resolved_by("train")

    for tags in ({}, CONTEXT, CONTEXT):
        client.opened(tags)

    assert [call.args[0].run_id for call in monitor.call_args_list] == ["run-2"]


def test_a_run_that_could_not_be_created_is_awaited_once_more(
    client: Client, monitor: Mock, store: FakeStore
) -> None:
    tags_resolved_by("train")
    store.failure = OSError("no server")
    with pytest.raises(OSError, match="no server"):
        client.opened(CONTEXT)
    store.failure = None

    client.opened(CONTEXT)

    monitor.assert_called_once()


def test_tags_of_long_ago_are_for_no_run(
    client: Client, monitor: Mock, mocker: MockerFixture
) -> None:
    clock = mocker.patch.object(client_patch, "time")
    clock.monotonic.return_value = 100.0
    tags_resolved_by("train")

    clock.monotonic.return_value = 161.0
    client.opened(CONTEXT)

    monitor.assert_not_called()


def test_a_run_of_another_thread_is_not_sampled(client: Client, monitor: Mock) -> None:
    thread = threading.Thread(target=tags_resolved_by, args=("train",))
    thread.start()
    thread.join()

    client.opened(CONTEXT)

    monitor.assert_not_called()


def test_wrapping_twice_begins_once(client: Client, monitor: Mock, mocker: MockerFixture) -> None:
    """As two threads may do that resolve tags for the first time."""
    mocker.patch.object(client_patch, "PATCHED_ATTR", "never found")
    tags_resolved_by("train")
    mocker.patch.object(client_patch, "PATCHED_ATTR", "not found either")
    tags_resolved_by("train")

    client.end(client.opened(CONTEXT))

    monitor.return_value.start.assert_called_once_with()
    monitor.return_value.finish.assert_called_once_with()


@pytest.mark.parametrize(("module", "value"), [("mlflow.sklearn", "true"), ("train", "false")])
def test_mlflows_client_is_changed_only_where_that_is_needed(
    monkeypatch: pytest.MonkeyPatch, module: str, value: str
) -> None:
    monkeypatch.setenv(MLFLOWS, value)
    methods = TrackingServiceClient.create_run, TrackingServiceClient.set_terminated

    tags_resolved_by(module)

    assert (TrackingServiceClient.create_run, TrackingServiceClient.set_terminated) == methods


def test_a_run_that_cannot_be_sampled_is_the_users_all_the_same(
    client: Client, monitor: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    monitor.side_effect = RuntimeError("no luck")

    for _ in range(2):
        tags_resolved_by("train")
        assert client.opened(CONTEXT)

    (record,) = caplog.records
    assert "not sampled: RuntimeError('no luck')" in record.getMessage()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this system")
def test_a_forked_child_forgets(client: Client, monitor: Mock) -> None:
    tags_resolved_by("train")
    run_id = client.opened(CONTEXT)
    tags_resolved_by("train")

    if not (pid := os.fork()):
        client.end(run_id)
        client.opened(CONTEXT)
        os._exit(monitor.return_value.finish.called or monitor.call_count > 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    client.opened(CONTEXT)
    client.end(run_id)
    assert monitor.call_count == 2
    monitor.return_value.finish.assert_called_once_with()
