from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING as VARIABLE
from mlflow.system_metrics import system_metrics_monitor as mlflows_module

from mlflow_sysmetrics.plugin import monitor_patch
from mlflow_sysmetrics.plugin.import_hook import ImportHook, is_awaited
from mlflow_sysmetrics.runs.monitors import SystemMetricsMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from pytest_mock import MockerFixture

SWITCH = "MLFLOW_RUN_CONTEXT_PROVIDER"
LIKE_MLFLOWS = """
class SystemMetricsMonitor:
    def __init__(self, run_id, resume_logging=False):
        self.run_id = run_id
"""

pytestmark = pytest.mark.usefixtures("nothing_said")


@pytest.fixture(autouse=True)
def _detached(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow as it is without us, and as it was after the test."""
    monkeypatch.delitem(vars(VARIABLE), "get", raising=False)
    finders = [each for each in sys.meta_path if not isinstance(each, ImportHook)]
    monkeypatch.setattr(sys, "meta_path", finders)
    monkeypatch.delenv(VARIABLE.name, raising=False)
    monkeypatch.delenv(SWITCH, raising=False)


@pytest.fixture
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "sysmonitor")


class OtherMlflow:
    """An MLflow whose monitor's module is written by the test and not imported yet."""

    name = "the_monitor_module_of_another_mlflow"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, source: str) -> None:
        (self._folder / f"{self.name}.py").write_text(source)

    def import_it(self) -> ModuleType:
        return importlib.import_module(self.name)


@pytest.fixture
def other_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherMlflow]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(monitor_patch, "MONITOR_MODULE", OtherMlflow.name)
    yield OtherMlflow(tmp_path)
    sys.modules.pop(OtherMlflow.name, None)


def is_on() -> bool | None:
    """What `start_run` asks where it is not told."""
    answer: bool | None = VARIABLE.get()
    return answer


# On by default


@pytest.mark.usefixtures("switched_on")
def test_system_metrics_are_on_by_default_while_switched_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monitor_patch.attach()
    assert is_on() is True

    monkeypatch.delenv(SWITCH)
    assert is_on() is False


@pytest.mark.usefixtures("switched_on")
@pytest.mark.parametrize(("value", "expected"), [("false", False), ("true", True)])
def test_a_variable_that_is_set_means_what_it_says(
    monkeypatch: pytest.MonkeyPatch, value: str, *, expected: bool
) -> None:
    monitor_patch.attach()

    monkeypatch.setenv(VARIABLE.name, value)

    assert is_on() is expected


@pytest.mark.usefixtures("switched_on")
def test_mlflows_functions_turn_it_off_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE.name, "restored after the test")
    monitor_patch.attach()

    mlflow.disable_system_metrics_logging()
    assert is_on() is False
    mlflow.enable_system_metrics_logging()
    assert is_on() is True


@pytest.mark.usefixtures("switched_on")
def test_children_do_not_inherit_the_default() -> None:
    monitor_patch.attach()
    is_on()

    assert VARIABLE.name not in os.environ


def test_attaching_again_changes_nothing(other_mlflow: OtherMlflow) -> None:
    monitor_patch.attach()
    get, finders = VARIABLE.get, list(sys.meta_path)

    monitor_patch.attach()

    assert VARIABLE.get is get
    assert sys.meta_path == finders
    assert sum(isinstance(each, ImportHook) for each in finders) == 1


@pytest.mark.usefixtures("switched_on")
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("class SomethingElse: ...", "has no attribute 'SystemMetricsMonitor'"),
        ("raise RuntimeError('psutil is broken')", "psutil is broken"),
        ("import no_such_module_of_mlflow", "No module named 'no_such_module_of_mlflow'"),
    ],
)
def test_where_ours_cannot_be_constructed_mlflow_is_as_it_was_with_one_warning(
    other_mlflow: OtherMlflow, caplog: pytest.LogCaptureFixture, source: str, reason: str
) -> None:
    other_mlflow.has(source)
    monitor_patch.attach()

    assert [is_on() for _ in range(3)] == [False] * 3
    (record,) = caplog.records
    assert reason in record.getMessage()


# Whose monitor runs


@pytest.mark.usefixtures("switched_on")
def test_mlflows_own_class_gives_ours_while_switched_on() -> None:
    monitor_patch.attach()

    monitor: Any = mlflows_module.SystemMetricsMonitor("1234", resume_logging=True)

    assert type(monitor) is SystemMetricsMonitor
    assert monitor.settings.sampling_interval_s == 10.0
    assert monitor_patch.is_attached()


def test_mlflows_own_class_gives_mlflows_while_switched_off(mocker: MockerFixture) -> None:
    mocker.patch("mlflow.utils.autologging_utils.BatchMetricsLogger")  # it would open a store
    monitor_patch.attach()

    monitor = mlflows_module.SystemMetricsMonitor("1234")

    assert type(monitor) is mlflows_module.SystemMetricsMonitor
    assert monitor._run_id == "1234"


@pytest.mark.usefixtures("switched_on")
def test_subclasses_of_users_stay_theirs() -> None:
    class UsersMonitor(mlflows_module.SystemMetricsMonitor):
        def __init__(self, name: str) -> None:
            self.name = name

    monitor_patch.attach()

    assert UsersMonitor("mine").name == "mine"


def test_a_module_that_is_imported_later_is_changed_then(
    other_mlflow: OtherMlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_mlflow.has(LIKE_MLFLOWS)
    monitor_patch.attach()
    assert other_mlflow.name not in sys.modules

    module = other_mlflow.import_it()

    assert monitor_patch.is_attached()
    assert module.SystemMetricsMonitor("1234").run_id == "1234"
    monkeypatch.setenv(SWITCH, "sysmonitor")
    assert type(module.SystemMetricsMonitor("1234")) is SystemMetricsMonitor


def test_a_module_that_is_imported_already_is_changed_at_once(other_mlflow: OtherMlflow) -> None:
    other_mlflow.has(LIKE_MLFLOWS)
    other_mlflow.import_it()
    assert not monitor_patch.is_attached()

    monitor_patch.attach()

    assert monitor_patch.is_attached()
    assert not is_awaited(other_mlflow.name)


@pytest.mark.parametrize(
    ("source", "error"),
    [("raise RuntimeError('psutil is broken')", RuntimeError), (None, ModuleNotFoundError)],
)
def test_a_module_that_cannot_be_imported_fails_as_it_would_without_us(
    other_mlflow: OtherMlflow, source: str | None, error: type[Exception]
) -> None:
    if source is not None:
        other_mlflow.has(source)
    monitor_patch.attach()

    with pytest.raises(error):
        other_mlflow.import_it()


def test_other_modules_are_none_of_our_business() -> None:
    finder: Any = ImportHook("mlflow", lambda _: None)

    assert finder.find_spec("json") is None
