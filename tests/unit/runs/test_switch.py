from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.runs import switch
from mlflow_sysmetrics.runs.switch import PROVIDERS_GROUP, switched_on, unknown_providers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

PROVIDERS = "MLFLOW_RUN_CONTEXT_PROVIDER"


@pytest.mark.parametrize(
    ("listed", "is_on"),
    [
        ("sysmetrics", True),
        (" sysmonitor , sysmetrics ", True),
        ("sysmetrics,sysmetrics", True),
        ("sysmonitor", False),
        ("sysmetrics2", False),
        ("SYSMETRICS", False),
        ("", False),
        (",", False),
        (None, False),
    ],
)
def test_a_provider_is_on_when_it_is_listed(listed: str | None, is_on: bool) -> None:  # noqa: FBT001 - a parameter of the table
    environ = {} if listed is None else {PROVIDERS: listed}

    assert switched_on("sysmetrics", environ) is is_on


def test_names_of_installed_providers_are_known(mocker: MockerFixture) -> None:
    _install(mocker, "corporate")

    assert unknown_providers({PROVIDERS: "sysmetrics,corporate,sysmonitor"}) == ()


def test_unknown_names_are_told_with_the_nearest_known(mocker: MockerFixture) -> None:
    _install(mocker, "corporate")

    sentences = unknown_providers({PROVIDERS: "sysmetric,corprate,sysmonitor"})

    assert [re.findall("'(.+?)'", sentence) for sentence in sentences] == [
        ["corprate", "corporate"],
        ["sysmetric", "sysmetrics"],
    ]


def test_the_usual_names_need_no_search_through_the_installed(mocker: MockerFixture) -> None:
    switch._unknown.cache_clear()
    search = mocker.patch.object(switch, "entry_points")

    unknown_providers({PROVIDERS: "sysmonitor,sysmetrics"})

    search.assert_not_called()


def _install(mocker: MockerFixture, name: str) -> None:
    switch._unknown.cache_clear()
    entry = EntryPoint(name, "corporate:Provider", PROVIDERS_GROUP)
    mocker.patch.object(switch, "entry_points", return_value=[entry])


@pytest.fixture(autouse=True)
def _forget_what_was_installed() -> Iterator[None]:
    yield
    switch._unknown.cache_clear()
