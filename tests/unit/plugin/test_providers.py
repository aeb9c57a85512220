from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics import facts
from mlflow_sysmetrics.plugin import client_patch, monitor_patch, providers
from mlflow_sysmetrics.plugin.providers import (
    SysMetricsRunContextProvider,
    SysMonitorRunContextProvider,
)
from mlflow_sysmetrics.runs import switch

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    AnyProvider = SysMetricsRunContextProvider | SysMonitorRunContextProvider

SWITCH = "MLFLOW_RUN_CONTEXT_PROVIDER"

pytestmark = pytest.mark.usefixtures("nothing_said")

BOTH = pytest.mark.parametrize(
    ("make", "name"),
    [(SysMetricsRunContextProvider, "sysmetrics"), (SysMonitorRunContextProvider, "sysmonitor")],
)


@pytest.fixture(autouse=True)
def attach(mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> object:
    """What attaches to MLflow; here it does nothing."""
    monkeypatch.delenv(SWITCH, raising=False)
    return mocker.patch.object(monitor_patch, "attach")


@BOTH
def test_a_provider_is_on_exactly_while_it_is_listed(
    monkeypatch: pytest.MonkeyPatch, make: type[AnyProvider], name: str
) -> None:
    provider = make()
    assert not provider.in_context()

    monkeypatch.setenv(SWITCH, f"other, {name}")
    assert provider.in_context()

    monkeypatch.setenv(SWITCH, "other")
    assert not provider.in_context()


@BOTH
def test_an_unknown_name_is_warned_about_once_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    make: type[AnyProvider],
    name: str,
) -> None:
    monkeypatch.setenv(SWITCH, f"{name},sysmetricks")

    assert [make().in_context() for _ in range(3)] == [True] * 3
    (record,) = caplog.records
    assert "'sysmetricks', which no installed plugin provides" in record.getMessage()
    assert "did you mean 'sysmetrics'?" in record.getMessage()


@BOTH
def test_a_switch_that_cannot_be_read_is_off(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture, make: type[AnyProvider], name: str
) -> None:
    mocker.patch.object(providers, "unknown_providers", side_effect=OSError("broken metadata"))

    assert not make().in_context()
    assert "broken metadata" in caplog.text


def test_tags_are_the_hosts(mocker: MockerFixture) -> None:
    mocker.patch.object(facts, "host_tags", return_value={"sys.cpu": "EPYC"})

    assert SysMetricsRunContextProvider().tags() == {"sys.cpu": "EPYC"}


def test_tags_never_raise(mocker: MockerFixture, caplog: pytest.LogCaptureFixture) -> None:
    mocker.patch.object(facts, "host_tags", side_effect=RuntimeError("no luck"))
    provider = SysMetricsRunContextProvider()

    assert [provider.tags() for _ in range(3)] == [{}] * 3
    assert caplog.text.count("no luck") == 1


def test_tags_do_without_what_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow_sysmetrics.facts", None)

    assert SysMetricsRunContextProvider().tags() == {}
    assert "runs get no host tags" in caplog.text


def test_the_monitors_provider_attaches(attach: object) -> None:
    SysMonitorRunContextProvider()

    attach.assert_called_once_with()  # type: ignore[attr-defined] # a mock


@pytest.mark.parametrize("module", ["mlflow.sklearn", "lightning.pytorch.loggers.mlflow"])
def test_the_monitors_provider_tells_who_resolves_tags(mocker: MockerFixture, module: str) -> None:
    tags_resolved_by = mocker.patch.object(client_patch, "tags_resolved_by")

    assert _resolved_in(module, SysMonitorRunContextProvider()) == {}

    tags_resolved_by.assert_called_once_with(module)


def test_resolving_tags_never_raises(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(client_patch, "tags_resolved_by", side_effect=ImportError("no such client"))

    for _ in range(2):
        assert _resolved_in("train", SysMonitorRunContextProvider()) == {}

    (record,) = caplog.records
    assert "runs that a client opens are not sampled: ImportError(" in record.getMessage()


def test_loading_never_raises(mocker: MockerFixture, caplog: pytest.LogCaptureFixture) -> None:
    mocker.patch.object(monitor_patch, "attach", side_effect=AttributeError("no such variable"))

    SysMonitorRunContextProvider()

    assert "no system metrics from this plugin: AttributeError('no such variable')" in caplog.text


def test_names_are_looked_for_among_the_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "sysmetrics,sysmonitor,nobody")
    switch._unknown.cache_clear()

    assert SysMetricsRunContextProvider().in_context()


def _resolved_in(module: str, provider: AnyProvider) -> dict[str, str]:
    """What a module gets by MLflow's `resolve_tags`, where there is no other provider."""

    def resolve_tags() -> dict[str, str]:
        return provider.tags()

    client = {"__name__": module, "resolve_tags": resolve_tags}
    exec("tags = resolve_tags()", client)  # noqa: S102 - a module of that name
    tags: dict[str, str] = client["tags"]  # type: ignore[assignment] # set by `exec`
    return tags
