from __future__ import annotations

import os
from collections import namedtuple
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.collectors.cpu import open_cpu
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.proc_pid import CLOCK_TICKS

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

WindowsTimes = namedtuple("WindowsTimes", "user system idle interrupt dpc")  # noqa: PYI024 - as psutil's own


@pytest.fixture
def linux(tmp_path: Path) -> Host:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  1000 100 500 8000 400 100 200 300 0 0\nctxt 5\n")
    (tmp_path / "proc/loadavg").write_text("1.50 2.50 3.50 1/80 11206\n")
    return Host(root=tmp_path, system="Linux")


@pytest.fixture
def windows(mocker: MockerFixture) -> Host:
    mocker.patch("psutil.cpu_times", return_value=WindowsTimes(10, 5, 80, 1, 2))
    return Host(system="Windows")


def test_linux_tells_times_and_load(linux: Host) -> None:
    assert open_cpu(linux).collect() == {
        "cpu_busy_seconds": 2200 / CLOCK_TICKS,
        "cpu_total_seconds": 10_600 / CLOCK_TICKS,
        "cpu/load_average_1m": 1.5,
    }


def test_elsewhere_psutil_tells_the_times(windows: Host) -> None:
    readings = open_cpu(windows).collect()

    assert (readings["cpu_busy_seconds"], readings["cpu_total_seconds"]) == (18, 98)


def test_elsewhere_python_tells_the_load(windows: Host, mocker: MockerFixture) -> None:
    mocker.patch("os.getloadavg", return_value=(1.5, 2.5, 3.5), create=True)

    assert open_cpu(windows).collect()["cpu/load_average_1m"] == 1.5


def test_where_there_is_no_load_average_it_is_left_out(
    windows: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "getloadavg", raising=False)

    assert open_cpu(windows).collect().keys() == {"cpu_busy_seconds", "cpu_total_seconds"}


def test_times_that_cannot_be_read_cost_no_load(linux: Host) -> None:
    (linux.procfs / "stat").unlink()
    collector = open_cpu(linux)

    assert collector.collect() == {"cpu/load_average_1m": 1.5}
    (note,) = collector.notes()
    assert "the CPUs' times" in note
