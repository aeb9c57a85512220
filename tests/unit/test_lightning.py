from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_sysmetrics.runs.registry import RunRequest
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

URI = "http://somewhere"
MODULE = "mlflow_sysmetrics.lightning"
PACKAGES = ("lightning.pytorch", "pytorch_lightning")

pytestmark = pytest.mark.usefixtures("nothing_said")


class FakeLogger:
    """An `MLFlowLogger` with a run."""

    def __init__(self, run_id: str = "1234") -> None:
        self.run_id = run_id
        self.experiment = SimpleNamespace(tracking_uri=URI)


class FakeLightning(ModuleType):
    """One of the two packages."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.Callback = type("Callback", (), {"__module__": name})
        self.MLFlowLogger = type("MLFlowLogger", (FakeLogger,), {"__module__": name})


@pytest.fixture(autouse=True)
def _without_lightning(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither package can be imported, also where it is installed."""
    for name in ("lightning", *PACKAGES):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, f"{name}.loggers.mlflow", raising=False)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield
    sys.modules.pop(MODULE, None)


def imported(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:  # noqa: ANN401 - a module made here
    package = FakeLightning(name)
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, f"{name}.loggers.mlflow", package)
    return package


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - as above
    """Lightning, imported."""
    return imported(monkeypatch, "lightning.pytorch")


@pytest.fixture
def monitor(mocker: MockerFixture, package: ModuleType) -> Mock:
    """What the callback monitors runs with."""
    monitor: Mock = mocker.patch.object(importlib.import_module(MODULE), "RunMonitor")
    return monitor


def trainer(*loggers: object, is_global_zero: bool = True) -> SimpleNamespace:
    return SimpleNamespace(loggers=list(loggers), is_global_zero=is_global_zero)


def callback(**arguments: object) -> Any:  # noqa: ANN401 - its base is made here
    return importlib.import_module(MODULE).SystemMetricsCallback(**arguments)


# What it is a callback of


@pytest.mark.parametrize("names", [PACKAGES[:1], PACKAGES[1:], PACKAGES])
def test_it_is_a_callback_of_whatever_is_imported(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    packages = [imported(monkeypatch, name) for name in names]

    it = callback()

    assert all(isinstance(it, package.Callback) for package in packages)


def test_else_of_what_is_installed(monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> None:
    package = FakeLightning("lightning.pytorch")

    def import_module(name: str) -> ModuleType:
        if name == package.__name__:
            return package
        raise ModuleNotFoundError(name=name)

    mocker.patch.object(importlib, "import_module", side_effect=import_module)
    from mlflow_sysmetrics.lightning import SystemMetricsCallback  # noqa: PLC0415 - imported anew

    assert issubclass(SystemMetricsCallback, package.Callback)


def test_where_none_is_installed_it_says_what_to_install() -> None:
    with pytest.raises(ImportError, match="pip install lightning, or pip install pytorch-lightn"):
        importlib.import_module(MODULE)


def test_where_one_is_broken_its_error_is_seen(mocker: MockerFixture) -> None:
    import_module = importlib.import_module
    mocker.patch.object(
        importlib, "import_module", side_effect=ModuleNotFoundError("no torch", name="torch")
    )

    with pytest.raises(ModuleNotFoundError, match="no torch"):
        import_module(MODULE)


# What it monitors


def test_the_run_of_a_logger_is_monitored_until_the_stage_ends(
    monitor: Mock, package: FakeLightning
) -> None:
    it, lightnings = callback(), trainer(object(), package.MLFlowLogger())

    it.setup(lightnings, None, "fit")
    monitor.return_value.start.assert_called_once_with()
    monitor.return_value.finish.assert_not_called()

    it.teardown(lightnings, None, "fit")
    monitor.return_value.finish.assert_called_once_with()


def test_an_exception_ends_it_once(monitor: Mock, package: FakeLightning) -> None:
    it, lightnings = callback(), trainer(package.MLFlowLogger())
    it.setup(lightnings, None, "fit")

    it.on_exception(lightnings, None, ZeroDivisionError())
    it.teardown(lightnings, None, "fit")

    monitor.return_value.finish.assert_called_once_with()


def test_every_stage_is_monitored_anew(monitor: Mock, package: FakeLightning) -> None:
    it, lightnings = callback(), trainer(package.MLFlowLogger())

    for stage in ("fit", "test"):
        it.setup(lightnings, None, stage)
        it.teardown(lightnings, None, stage)

    assert monitor.return_value.start.call_count == monitor.return_value.finish.call_count == 2


def test_all_loggers_of_the_trainer_have_their_runs_monitored(
    monitor: Mock, package: FakeLightning
) -> None:
    loggers = [package.MLFlowLogger(run_id) for run_id in ("1", "2")]

    callback().setup(trainer(*loggers), None, "fit")

    openings = [call.args[0] for call in monitor.call_args_list]
    assert [(each.run_id, each.tracking_uri) for each in openings] == [("1", URI), ("2", URI)]


def test_other_ranks_monitor_nothing(monitor: Mock, package: FakeLightning) -> None:
    callback().setup(trainer(package.MLFlowLogger(), is_global_zero=False), None, "fit")

    monitor.assert_not_called()


def test_its_arguments_are_settings(monitor: Mock, package: FakeLightning) -> None:
    it = callback(sampling_interval=0.5, samples_before_logging=3, node_id="node-3")

    it.setup(trainer(package.MLFlowLogger()), None, "fit")

    settings = Settings(sampling_interval_s=0.5, samples_before_logging=3, node_id="node-3")
    monitor.assert_called_once_with(
        RunRequest("1234", URI, settings, resumed=True, poll_status=True)
    )


# What goes wrong


@pytest.mark.usefixtures("package")
def test_without_a_logger_of_mlflow_it_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        callback().setup(trainer(object()), None, "fit")

    (record,) = caplog.records
    assert "the trainer has no MLFlowLogger" in record.getMessage()


def test_a_logger_whose_run_is_unknown_does_not_end_the_training(
    monitor: Mock, package: FakeLightning, caplog: pytest.LogCaptureFixture
) -> None:
    monitor.side_effect = OSError("no server")
    it, lightnings = callback(), trainer(package.MLFlowLogger())

    it.setup(lightnings, None, "fit")
    it.teardown(lightnings, None, "fit")

    assert "is not sampled: OSError('no server')" in caplog.text
