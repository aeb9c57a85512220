from __future__ import annotations

import os
from collections import namedtuple
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.collectors.cpu import open_cpu
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

LinuxTimes = namedtuple(  # noqa: PYI024 - as psutil's own
    "LinuxTimes", "user nice system idle iowait irq softirq steal guest guest_nice"
)
WindowsTimes = namedtuple("WindowsTimes", "user system idle interrupt dpc")  # noqa: PYI024 - as above


@pytest.mark.parametrize(
    ("times", "busy_s", "total_s"),
    [
        pytest.param(LinuxTimes(10, 1, 5, 80, 4, 1, 2, 3, 0, 0), 22, 106, id="linux"),
        # Of the 10 + 1 seconds of user and nice, 6 + 1 were spent in virtual machines.
        pytest.param(LinuxTimes(10, 1, 5, 80, 4, 1, 2, 3, 6, 1), 22, 106, id="hypervisor"),
        pytest.param(WindowsTimes(10, 5, 80, 1, 2), 18, 98, id="windows"),
    ],
)
def test_waiting_is_not_busy_and_guests_count_once(
    mocker: MockerFixture, times: tuple[float, ...], busy_s: float, total_s: float
) -> None:
    mocker.patch("psutil.cpu_times", return_value=times)

    readings = open_cpu(Host()).collect()

    assert readings["cpu_busy_seconds"] == busy_s
    assert readings["cpu_total_seconds"] == total_s


def test_the_load_of_the_last_minute_is_read(mocker: MockerFixture) -> None:
    mocker.patch("os.getloadavg", return_value=(1.5, 2.5, 3.5), create=True)

    assert open_cpu(Host()).collect()["cpu/load_average_1m"] == 1.5


def test_where_there_is_no_load_average_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg", raising=False)

    assert open_cpu(Host()).collect().keys() == {"cpu_busy_seconds", "cpu_total_seconds"}
