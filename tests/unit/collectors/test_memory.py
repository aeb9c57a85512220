from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.collectors.memory import open_memory
from mlflow_sysmetrics.host import Host

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

GB = 10**9


def test_memory_and_swap_in_use(mocker: MockerFixture) -> None:
    _host_with(mocker, swap_total=8 * GB, swap_used=2 * GB)

    assert open_memory(Host()).collect() == {
        "system_memory_usage_megabytes": 4000.0,
        "system_memory_usage_percentage": 25.0,
        "swap_usage_megabytes": 2000.0,
        "swap_usage_percentage": 25.0,
    }


def test_a_host_without_swap_has_no_readings_of_it(mocker: MockerFixture) -> None:
    _host_with(mocker, swap_total=0, swap_used=0)

    assert open_memory(Host()).collect().keys() == {
        "system_memory_usage_megabytes",
        "system_memory_usage_percentage",
    }


def _host_with(mocker: MockerFixture, swap_total: int, swap_used: int) -> None:
    """A host with 4 of 16 GB in use; 3 more are taken up by caches."""
    memory = SimpleNamespace(total=16 * GB, used=4 * GB, available=9 * GB, percent=43.8)
    mocker.patch("psutil.virtual_memory", return_value=memory)
    swap = SimpleNamespace(total=swap_total, used=swap_used)
    mocker.patch("psutil.swap_memory", return_value=swap)
