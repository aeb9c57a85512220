from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.accelerators.apple.collector import open_apple
from mlflow_sysmetrics.catalog import metrics_of
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

COMMANDS = Path(__file__).parents[3] / "data/commands"


@pytest.fixture
def mac(mocker: MockerFixture) -> Callable[[str], Host]:
    """A Mac whose `ioreg` prints the given text."""

    def make(printed: str) -> Host:
        mocker.patch.object(Host, "run", return_value=printed)
        return Host(system="Darwin")

    return make


def test_apples_gpu_reports_utilisation_and_memory(mac: Callable[[str], Host]) -> None:
    host = mac((COMMANDS / "ioreg-m1-max.txt").read_text())

    assert open_apple(host).collect() == {
        "gpu_0_utilization_percentage": 25,
        "gpu_0_memory_usage_megabytes": pytest.approx(745.570304),
        "gpu/utilization_percentage": 25,
        "gpu/memory_usage_megabytes": pytest.approx(745.570304),
    }


def test_a_card_in_an_intel_mac_reports_more(mac: Callable[[str], Host]) -> None:
    host = mac((COMMANDS / "ioreg-intel-mac.txt").read_text())

    assert open_apple(host).collect() == {
        "gpu_0_utilization_percentage": 4,  # its memory is told as a negative number
        "gpu_1_utilization_percentage": 61,
        "gpu_1_memory_usage_megabytes": pytest.approx(1932.735283),
        "gpu_1_memory_usage_percentage": pytest.approx(22.510, abs=1e-3),
        "gpu_1_power_usage_watts": 31,
        "gpu_1/temperature_celsius": 58,
        "gpu_1/fan_speed_percentage": 33,
        "gpu_1/sm_clock_megahertz": 1300,
        "gpu_1/memory_clock_megahertz": 750,
        "gpu/utilization_percentage": 32.5,
    }


@pytest.mark.parametrize("printed", ["ioreg-m1-max.txt", "ioreg-intel-mac.txt"])
def test_every_reading_is_for_a_metric_of_the_catalog(
    printed: str, mac: Callable[[str], Host]
) -> None:
    host = mac((COMMANDS / printed).read_text())

    assert all(metrics_of(name) for name in open_apple(host).collect())


def test_a_mac_without_a_gpu_that_reports_has_none(mac: Callable[[str], Host]) -> None:
    with pytest.raises(Unavailable, match="no graphics driver reports"):
        open_apple(mac(""))


def test_elsewhere_there_is_none() -> None:
    with pytest.raises(Unavailable, match="not a Mac"):
        open_apple(Host(system="Linux"))


def test_a_failing_ioreg_costs_this_sample_alone(
    mac: Callable[[str], Host], mocker: MockerFixture
) -> None:
    collector = open_apple(mac((COMMANDS / "ioreg-m1-max.txt").read_text()))
    mocker.patch.object(Host, "run", side_effect=Unavailable("ioreg did not answer within 3 s"))

    with pytest.raises(Unavailable):
        collector.collect()
    collector.close()
    collector.close()
