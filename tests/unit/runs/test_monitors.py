from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest

from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.runs.monitors import RunMonitor, SystemMetricsMonitor, monitor
from mlflow_sysmetrics.runs.registry import OpenRun, RunRequest
from mlflow_sysmetrics.settings import VARIABLES, Settings

if TYPE_CHECKING:
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

URI = "http://somewhere"
INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"

pytestmark = pytest.mark.usefixtures("nothing_said")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    mocker.patch("mlflow.get_tracking_uri", return_value="http://mlflows-own")


@pytest.fixture
def open_run(mocker: MockerFixture) -> Mock:
    """What opens a run: `return_value` is the open run."""
    run = mocker.create_autospec(OpenRun, instance=True, refcount=0)
    opened: Mock = mocker.patch.object(registry, "open_run", return_value=run)
    return opened


@pytest.fixture
def run_monitor() -> RunMonitor:
    return RunMonitor(RunRequest("1234", URI, Settings(), resumed=False))


# RunMonitor


def test_a_monitor_opens_its_run_and_closes_it(open_run: Mock, run_monitor: RunMonitor) -> None:
    run_monitor.start()
    open_run.assert_called_once_with(run_monitor.opening)
    open_run.return_value.close.assert_not_called()

    run_monitor.finish()
    open_run.return_value.close.assert_called_once_with()


def test_starting_and_finishing_twice_is_once(open_run: Mock, run_monitor: RunMonitor) -> None:
    run_monitor.start()
    run_monitor.start()
    run_monitor.finish()
    run_monitor.finish()

    open_run.assert_called_once()
    open_run.return_value.close.assert_called_once()


def test_a_monitor_may_be_started_again(open_run: Mock, run_monitor: RunMonitor) -> None:
    for _ in range(2):
        run_monitor.start()
        run_monitor.finish()

    assert open_run.call_count == open_run.return_value.close.call_count == 2


def test_what_was_never_started_is_finished_without_more_ado(
    open_run: Mock, run_monitor: RunMonitor
) -> None:
    run_monitor.finish()

    open_run.assert_not_called()


def test_a_run_that_cannot_be_opened_is_said_and_not_closed(
    open_run: Mock, run_monitor: RunMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    open_run.side_effect = RuntimeError("can't start new thread")

    run_monitor.start()
    run_monitor.finish()

    assert "run 1234 is not sampled: RuntimeError(" in caplog.text


def test_a_run_that_cannot_be_closed_is_said(
    open_run: Mock, run_monitor: RunMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    open_run.return_value.close.side_effect = OSError("no luck")
    run_monitor.start()

    run_monitor.finish()

    assert "run 1234 may lack its last system metrics: OSError('no luck')" in caplog.text


def test_as_a_context_it_lets_exceptions_through(open_run: Mock, run_monitor: RunMonitor) -> None:
    def train() -> None:
        with run_monitor as entered:
            assert entered is run_monitor
            open_run.assert_called_once()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()

    open_run.return_value.close.assert_called_once()


def test_refused_settings_are_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(INTERVAL, "often")

    for _ in range(3):
        monitor("1234")

    (record,) = caplog.records
    assert f"{INTERVAL}='often' is not a number of seconds" in record.getMessage()


# The class that MLflow constructs


def test_it_is_one_of_mlflows_own_kind() -> None:
    from mlflow.system_metrics.system_metrics_monitor import (  # noqa: PLC0415 - the other of the name
        SystemMetricsMonitor as MlflowsMonitor,
    )

    assert issubclass(SystemMetricsMonitor, MlflowsMonitor)


def test_its_arguments_are_settings() -> None:
    found = SystemMetricsMonitor(
        "1234", sampling_interval=0.5, samples_before_logging=3, node_id="node-3"
    ).settings

    assert found == Settings(sampling_interval_s=0.5, samples_before_logging=3, node_id="node-3")


def test_variables_win_over_its_arguments_as_in_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL, "2")

    found = SystemMetricsMonitor("1234", sampling_interval=0.5, samples_before_logging=3).settings

    assert found == Settings(sampling_interval_s=2.0, samples_before_logging=3)


@pytest.mark.parametrize(
    ("arguments", "tracking_uri"), [({}, "http://mlflows-own"), ({"tracking_uri": URI}, URI)]
)
@pytest.mark.parametrize("resumed", [True, False])
def test_it_opens_the_run_that_mlflow_names(
    open_run: Mock, arguments: dict[str, str], tracking_uri: str, *, resumed: bool
) -> None:
    it = SystemMetricsMonitor("1234", resume_logging=resumed, **arguments)  # type: ignore[arg-type] # only a URI

    it.start()

    open_run.assert_called_once_with(RunRequest("1234", tracking_uri, it.settings, resumed=resumed))
    it.finish()
    open_run.return_value.close.assert_called_once_with()


def test_where_another_thread_has_the_run_open_its_end_finds_the_monitor(
    open_run: Mock, mocker: MockerFixture
) -> None:
    monitors = mocker.patch.dict("mlflow.tracking.fluent.run_id_to_system_metrics_monitor")
    run = open_run.return_value
    it = SystemMetricsMonitor("1234")
    it.start()
    run.refcount = 1

    it.finish()
    monitors.pop("1234").finish()

    assert run.close.call_count == 2


def test_the_last_end_of_a_run_leaves_nothing_behind(open_run: Mock, mocker: MockerFixture) -> None:
    monitors = mocker.patch.dict("mlflow.tracking.fluent.run_id_to_system_metrics_monitor")
    it = SystemMetricsMonitor("1234")
    it.start()

    it.finish()

    assert "1234" not in monitors


# The function `monitor`


def test_without_a_run_id_the_active_run_is_monitored(mocker: MockerFixture) -> None:
    active = mocker.patch.object(mlflow, "active_run")
    active.return_value.info.run_id = "5678"

    assert monitor().opening.run_id == "5678"


def test_without_a_run_there_is_nothing_to_monitor(mocker: MockerFixture) -> None:
    mocker.patch.object(mlflow, "active_run", return_value=None)

    with pytest.raises(ValueError, match="give a run_id, or call this after"):
        monitor()


def test_arguments_of_monitor_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL, "2")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_NODE_ID", "node-3")

    assert monitor("1234", sampling_interval=0.5).opening == RunRequest(
        "1234",
        "http://mlflows-own",
        Settings(sampling_interval_s=0.5, node_id="node-3"),
        resumed=True,
        poll_status=True,
    )


def test_another_store_may_be_named() -> None:
    assert monitor("1234", URI).opening.tracking_uri == URI
