from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import mlflow
import psutil
import pytest

from fakes.simulation import LONG_S
from fakes.waiting import eventually
from mlflow_sysmetrics.catalog import PREFIX, PROCESS_METRICS
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.tracking import ClientRunStore, open_store
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.runs.compat import process_monitor as module
from mlflow_sysmetrics.runs.compat.process_monitor import ProcessMetricsMonitor
from mlflow_sysmetrics.runs.registry import OpenRun, RunRequest
from mlflow_sysmetrics.settings import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.sampling.sink import Point

URI = "http://mlflows-own"
NO_PID = 2**22 + 1  # above the largest that Linux gives

BURN = "import sys; print('ready', flush=True)\nwhile True: pass"
IDLE = "print('ready', flush=True); input()"


@pytest.fixture(autouse=True)
def active_run(monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> Mock:
    """What gives the active run, by default one with the id `active`."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    mocker.patch.object(mlflow, "get_tracking_uri", return_value=URI)
    run: Mock = mocker.patch.object(mlflow, "active_run")
    run.return_value.info.run_id = "active"
    return run


@pytest.fixture
def open_run(mocker: MockerFixture) -> Mock:
    """What begins to sample; `return_value` is the open run."""
    run = mocker.create_autospec(OpenRun, instance=True, refcount=0)
    opened: Mock = mocker.patch.object(registry, "open_run", return_value=run)
    return opened


class Child(NamedTuple):
    """A process of one thread that says when it is ready."""

    process: subprocess.Popen[bytes]

    @property
    def cpu_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def has_burnt(self, seconds: float) -> None:
        """Wait until it has used so much more CPU time."""
        until_s = self.cpu_s + seconds
        eventually(lambda: self.cpu_s >= until_s)

    def ends(self) -> None:
        self.process.kill()
        self.process.wait()


def _started(script: str) -> Iterator[Child]:
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield Child(process)
        process.kill()


@pytest.fixture
def busy_child() -> Iterator[Child]:
    yield from _started(BURN)


@pytest.fixture
def idle_child() -> Iterator[Child]:
    yield from _started(IDLE)


def opening_of(open_run: Mock) -> RunRequest:
    (opening,) = open_run.call_args.args
    assert isinstance(opening, RunRequest)
    return opening


# Construction


def test_all_arguments_may_be_given_by_position_and_are_attributes() -> None:
    monitor = ProcessMetricsMonitor(4711, False, 2.5, 3, "loader/", True, 2000.0, 1.5)  # noqa: FBT003 - as stouputils' scripts do

    assert monitor.pid == 4711
    assert monitor.children is False
    assert monitor.sampling_interval == 2.5
    assert monitor.samples_before_logging == 3
    assert monitor.prefix == "loader/"
    assert monitor.verbose is True
    assert monitor.max_memory_megabytes == 2000.0
    assert monitor.max_cpu_count == 1.5


def test_by_default_it_is_about_this_process_with_its_children() -> None:
    monitor = ProcessMetricsMonitor()

    assert monitor.pid == os.getpid()
    assert monitor.children is True
    assert monitor.sampling_interval == 10.0
    assert monitor.samples_before_logging == 1
    assert monitor.prefix == "process/"
    assert monitor.verbose is False


def test_before_the_start_nothing_is_sampled() -> None:
    monitor = ProcessMetricsMonitor()

    assert monitor.run_id is None
    assert monitor.thread is None
    assert monitor.shutdown_event.is_set()
    assert monitor.step == 0


def test_a_prefix_may_include_the_part_that_is_always_there() -> None:
    assert ProcessMetricsMonitor(prefix="system/process/").prefix == "process/"


def test_processes_are_the_root_and_its_children(idle_child: Child) -> None:
    child = idle_child.process.pid

    assert {os.getpid(), child} <= ProcessMetricsMonitor().processes.keys()
    assert ProcessMetricsMonitor(children=False).processes.keys() == {os.getpid()}
    assert ProcessMetricsMonitor(child).processes == {child: psutil.Process(child)}


def test_there_are_no_processes_when_the_root_has_ended() -> None:
    assert ProcessMetricsMonitor(NO_PID).processes == {}


# Start and finish


def test_it_samples_for_the_active_run_under_the_settings_it_was_given(open_run: Mock) -> None:
    monitor = ProcessMetricsMonitor(sampling_interval=0.5, samples_before_logging=3, prefix="x/")
    monitor.start()

    opening = opening_of(open_run)
    assert (opening.run_id, opening.tracking_uri) == ("active", URI)
    assert opening.settings.sampling_interval_s == 0.5
    assert opening.settings.samples_before_logging == 3
    assert opening.prefix == "x/"
    assert monitor.run_id == "active"
    assert not monitor.shutdown_event.is_set()

    monitor.finish()
    open_run.return_value.close.assert_called_once_with()
    assert monitor.shutdown_event.is_set()


def test_a_run_and_a_store_may_be_named(open_run: Mock, active_run: Mock) -> None:
    active_run.return_value = None

    ProcessMetricsMonitor(run_id="1234", tracking_uri="http://elsewhere").start()

    opening = opening_of(open_run)
    assert (opening.run_id, opening.tracking_uri) == ("1234", "http://elsewhere")


def test_as_a_context_it_lets_exceptions_through_and_ends(open_run: Mock) -> None:
    def train() -> None:
        with ProcessMetricsMonitor() as monitor:
            assert not monitor.shutdown_event.is_set()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()

    open_run.return_value.close.assert_called_once_with()


def test_it_is_an_asynchronous_context_too(open_run: Mock) -> None:
    async def train() -> ProcessMetricsMonitor:
        async with ProcessMetricsMonitor() as monitor:
            open_run.return_value.close.assert_not_called()
            return monitor

    assert asyncio.run(train()).shutdown_event.is_set()
    open_run.return_value.close.assert_called_once_with()


def test_an_event_loop_goes_on_while_the_last_samples_are_sent(open_run: Mock) -> None:
    has_turned = threading.Event()
    turned_in_time: list[bool] = []

    def close() -> None:
        turned_in_time.append(has_turned.wait(LONG_S))

    open_run.return_value.close.side_effect = close

    async def train() -> None:
        async with ProcessMetricsMonitor():
            asyncio.get_running_loop().call_soon(has_turned.set)

    asyncio.run(train())

    assert turned_in_time == [True]


def test_it_may_be_started_again(open_run: Mock) -> None:
    monitor = ProcessMetricsMonitor()
    for _ in range(2):
        monitor.start()
        monitor.finish()

    assert open_run.call_count == open_run.return_value.close.call_count == 2


def test_finishing_what_was_never_started_is_nothing(
    open_run: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    ProcessMetricsMonitor().finish()

    open_run.assert_not_called()
    assert caplog.messages == []


def test_verbose_tells_of_start_and_end(open_run: Mock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mlflow_sysmetrics"):
        for verbose in (False, True):
            with ProcessMetricsMonitor(verbose=verbose):
                pass

    begins, ends = caplog.messages
    assert f"ProcessMetricsMonitor monitors process {os.getpid()}" in begins
    assert f"ProcessMetricsMonitor no longer monitors process {os.getpid()}" in ends


def assert_said_only(caplog: pytest.LogCaptureFixture, what: str) -> None:
    (message,) = caplog.messages
    assert what in message


def test_starting_twice_is_said_and_opens_once(
    open_run: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = ProcessMetricsMonitor()
    monitor.start()
    monitor.start()

    open_run.assert_called_once()
    assert_said_only(caplog, "is running already")


def test_without_an_active_run_it_says_what_it_needs(
    open_run: Mock, active_run: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    active_run.return_value = None
    monitor = ProcessMetricsMonitor()

    monitor.start()

    open_run.assert_not_called()
    assert monitor.shutdown_event.is_set()
    assert_said_only(caplog, "no run is active; start one before, or give it a run_id")


def test_without_the_process_it_says_so(open_run: Mock, caplog: pytest.LogCaptureFixture) -> None:
    monitor = ProcessMetricsMonitor(NO_PID)

    monitor.start()
    monitor.finish()

    open_run.assert_not_called()
    assert monitor.shutdown_event.is_set()
    assert_said_only(caplog, f"does not start: there is no process {NO_PID}")


def test_where_no_thread_may_start_nothing_is_sampled(
    open_run: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    open_run.side_effect = RuntimeError("at interpreter shutdown")
    monitor = ProcessMetricsMonitor(run_id="1")

    monitor.start()

    assert monitor.shutdown_event.is_set()
    assert "at interpreter shutdown" in caplog.text


def test_a_run_that_others_end_is_noticed(open_run: Mock) -> None:
    ProcessMetricsMonitor(run_id="1").start()

    assert opening_of(open_run).poll_status


def test_the_end_of_the_process_is_the_monitors(
    open_run: Mock, idle_child: Child, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = ProcessMetricsMonitor(idle_child.process.pid)
    monitor.start()
    on_end = opening_of(open_run).on_end
    assert on_end is not None
    idle_child.ends()

    on_end()

    assert monitor.shutdown_event.is_set()
    assert monitor.thread is None
    monitor.start()
    open_run.return_value.close.assert_called_once_with()
    assert_said_only(caplog, f"there is no process {monitor.pid}")


def test_what_sysmonitor_logs_to_the_run_is_not_logged_twice(
    open_run: Mock, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(registry, "is_open", lambda opening: opening.prefix == "process/")

    ProcessMetricsMonitor().start()
    ProcessMetricsMonitor(prefix="loader/").start()

    assert opening_of(open_run).prefix == "loader/"
    open_run.assert_called_once()
    assert_said_only(caplog, "already logs metrics of the same names to this run")


# One look


def test_a_look_has_what_is_in_the_catalog_without_the_prefix(busy_child: Child) -> None:
    metrics = ProcessMetricsMonitor(busy_child.process.pid).collect_once()

    listed = {metric.key.removeprefix("process/") for metric in PROCESS_METRICS}
    assert metrics.keys() <= listed
    assert metrics["num_processes"] == metrics["num_threads"] == 1
    assert metrics["memory_rss_megabytes"] > 1
    assert metrics["cpu_usage_percentage"] > 0


def test_a_look_tells_the_cpu_time_since_the_last_one(busy_child: Child) -> None:
    monitor = ProcessMetricsMonitor(busy_child.process.pid, max_cpu_count=4)
    monitor.collect_once()
    began_s, cpu_s = time.monotonic(), busy_child.cpu_s
    busy_child.has_burnt(0.5)

    metrics = monitor.collect_once()

    percentage = 100 * (busy_child.cpu_s - cpu_s) / (time.monotonic() - began_s)
    assert metrics["cpu_usage_percentage"] == pytest.approx(percentage, rel=0.15)
    assert metrics["cpu_utilization_percentage"] == pytest.approx(
        metrics["cpu_usage_percentage"] / 4, abs=0.01
    )


def test_children_count_unless_they_are_left_out(busy_child: Child) -> None:
    with_children = ProcessMetricsMonitor().collect_once()
    alone = ProcessMetricsMonitor(children=False).collect_once()

    assert with_children["num_processes"] >= 2
    assert alone["num_processes"] == 1


def test_memory_is_a_share_of_what_is_given(idle_child: Child) -> None:
    metrics = ProcessMetricsMonitor(
        idle_child.process.pid, max_memory_megabytes=100.0
    ).collect_once()

    assert metrics["memory_usage_percentage"] == metrics["memory_rss_megabytes"]


def test_a_process_that_is_not_there_has_no_metrics(idle_child: Child) -> None:
    monitor = ProcessMetricsMonitor(idle_child.process.pid)
    monitor.collect_once()
    idle_child.ends()

    assert monitor.collect_once() == {}
    assert ProcessMetricsMonitor(NO_PID).collect_once() == {}


# Aggregation


def test_samples_are_put_together_as_means() -> None:
    monitor = ProcessMetricsMonitor()

    assert monitor.aggregate([{"a": 1.0, "b": 5.0}, {"a": 4.0}]) == {"a": 2.5, "b": 5.0}
    assert monitor.aggregate([]) == {}


# Publishing


@pytest.fixture
def store(mocker: MockerFixture) -> Mock:
    """What opens stores; `return_value` is the store."""
    opened: Mock = mocker.patch.object(module, "open_store", autospec=open_store)
    opened.return_value = mocker.create_autospec(ClientRunStore, instance=True)
    return opened


def points_of(store: Mock) -> list[Point]:
    return [point for call in store.return_value.log.call_args_list for point in call.args[0]]


def test_metrics_are_published_under_the_prefix_step_by_step(store: Mock) -> None:
    monitor = ProcessMetricsMonitor(prefix="loader/")
    monitor.publish({"num_threads": 4.0})
    monitor.publish({"num_threads": 5.0})

    store.assert_called_with(RunAddress("active", URI, PREFIX))
    assert [(point.key, point.value, point.step) for point in points_of(store)] == [
        ("loader/num_threads", 4.0, 0),
        ("loader/num_threads", 5.0, 1),
    ]
    assert monitor.step == 2


def test_publishing_without_a_run_says_what_it_needs(
    store: Mock, active_run: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    active_run.return_value = None

    ProcessMetricsMonitor().publish({"num_threads": 4.0})

    store.assert_not_called()
    assert_said_only(caplog, "publishes nothing: no run is active")


def test_a_store_that_fails_is_said_and_the_step_is_left_out(
    store: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    store.return_value.log.side_effect = [OSError("no luck"), None]
    monitor = ProcessMetricsMonitor(run_id="1234", tracking_uri="http://elsewhere")

    monitor.publish({"num_threads": 4.0})
    monitor.publish({"num_threads": 5.0})

    store.assert_called_with(RunAddress("1234", "http://elsewhere", PREFIX))
    assert monitor.step == 2
    assert_said_only(caplog, "could not publish step 0: OSError('no luck')")
