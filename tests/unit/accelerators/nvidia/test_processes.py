from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import h100, process, utilization_sample
from fakes.simulation import Simulation
from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.accelerators.nvidia.device import NvmlDevice
from mlflow_sysmetrics.accelerators.nvidia.opening import open_nvml
from mlflow_sysmetrics.accelerators.nvidia.processes import ProcessReadings
from mlflow_sysmetrics.accelerators.own_processes import OwnProcesses
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

    from fakes.fake_nvml import FakeGpu, FakeNvml

    Install = Callable[..., FakeNvml]

_PROCESSES = "nvmlDeviceGetComputeRunningProcesses"
_MPS_CLIENTS = "nvmlDeviceGetMPSComputeRunningProcesses"
_UTILIZATION = "nvmlDeviceGetProcessUtilization"

SECOND = 1_000_000


class Ours(OwnProcesses):
    """The processes 100 to 199."""

    def __init__(self) -> None:
        super().__init__(100)

    def has(self, pid: int) -> bool:
        return 100 <= pid < 200


class Bench:
    def __init__(self, gpu: FakeGpu) -> None:
        self.clock = Simulation(began_ms=0)
        self.gpu = gpu
        self.part = NvmlDevice(open_nvml(Host()), Address(0))
        self.readings = ProcessReadings([self.part], Ours(), self.clock, in_mig_mode=False)

    @property
    def has_used(self) -> bool:
        return self.readings.has_used(self.part)

    def read_at(self, time_s: float) -> dict[str, float]:
        self.clock.time_s = time_s
        return self.readings.read(time_s)


@pytest.fixture
def bench(install_nvml: Install) -> Bench:
    gpu = h100()
    install_nvml(gpu)
    return Bench(gpu)


def test_memory_is_that_of_the_runs_own_processes(bench: Bench) -> None:
    bench.gpu.answers[_PROCESSES] = [
        process(100, 2 * 10**9),
        process(150, 10**9),
        process(99, 40 * 10**9),
    ]

    assert bench.read_at(0)["process_memory_megabytes"] == 3000.0
    assert bench.has_used


def test_clients_of_mps_are_in_a_list_of_their_own(bench: Bench) -> None:
    bench.gpu.answers[_PROCESSES] = [process(99, 10**9), process(150, 10**9)]
    bench.gpu.answers[_MPS_CLIENTS] = [process(100, 2 * 10**9), process(150, 10**9)]

    assert bench.read_at(0)["process_memory_megabytes"] == 3000.0


@pytest.mark.parametrize("failure", ["NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "NO_PERMISSION"])
def test_without_the_list_of_mps_the_other_stands(bench: Bench, failure: str) -> None:
    bench.gpu.answers[_PROCESSES] = [process(100, 10**9)]
    bench.gpu.fails(failure, [_MPS_CLIENTS])

    assert bench.read_at(0)["process_memory_megabytes"] == 1000.0
    assert not list(bench.readings.why_missing())


@pytest.mark.parametrize(
    ("failure", "is_withheld"),
    [("NOT_SUPPORTED", True), ("NO_PERMISSION", True), ("GPU_IS_LOST", False)],
)
@pytest.mark.usefixtures("nothing_said")
def test_a_list_is_withheld_by_a_gpu_that_is_well(
    bench: Bench,
    failure: str,
    is_withheld: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    bench.gpu.fails(failure, [_PROCESSES])
    bench.read_at(0)

    assert bench.readings.are_withheld(bench.part) is is_withheld


def test_a_tree_that_does_not_use_the_gpu_uses_none_of_it(bench: Bench) -> None:
    bench.gpu.answers[_PROCESSES] = [process(99, 40 * 10**9)]

    assert bench.read_at(1) == {
        "process_memory_megabytes": 0.0,
        "process_utilization_percentage": 0.0,
    }
    assert not bench.has_used


def test_memory_that_windows_manages_is_not_reported(bench: Bench) -> None:
    bench.gpu.answers[_PROCESSES] = [process(100, 10**9), process(101, None)]

    assert "process_memory_megabytes" not in bench.read_at(0)
    assert bench.has_used


def test_utilisation_is_the_sum_of_each_own_process_since_the_last_sample(bench: Bench) -> None:
    bench.read_at(0)
    bench.gpu.answers[_UTILIZATION] = [
        utilization_sample(100, 30, 2 * SECOND),
        utilization_sample(100, 50, 4 * SECOND),
        utilization_sample(101, 20, 3 * SECOND),
        utilization_sample(99, 90, 3 * SECOND),
    ]

    assert bench.read_at(10)["process_utilization_percentage"] == 60.0
    assert bench.read_at(20)["process_utilization_percentage"] == 0.0  # nothing since


def test_samples_that_cannot_be_are_not_counted(bench: Bench) -> None:
    bench.read_at(0)
    bench.gpu.answers[_UTILIZATION] = [
        utilization_sample(100, 25, 5 * SECOND),
        utilization_sample(101, 3_000_000, 5 * SECOND),
    ]

    assert bench.read_at(10)["process_utilization_percentage"] == 25.0


def test_a_sample_that_comes_late_is_counted(bench: Bench) -> None:
    bench.gpu.answers[_UTILIZATION] = [utilization_sample(100, 30, 9 * SECOND)]
    bench.read_at(10)
    bench.gpu.answers[_UTILIZATION] = [utilization_sample(100, 80, 9 * SECOND + 500_000)]

    assert bench.read_at(20)["process_utilization_percentage"] == 80.0


def test_where_no_sample_can_be_new_yet_there_is_no_figure(bench: Bench) -> None:
    bench.gpu.answers[_UTILIZATION] = [utilization_sample(100, 30, 9 * SECOND)]

    assert bench.read_at(9.1)["process_utilization_percentage"] == 30.0
    assert "process_utilization_percentage" not in bench.read_at(9.2)
    assert bench.read_at(10)["process_utilization_percentage"] == 0.0


def test_a_sample_of_the_future_hides_none_that_follow(bench: Bench) -> None:
    bench.gpu.answers[_UTILIZATION] = [utilization_sample(100, 30, 99 * SECOND)]
    bench.read_at(10)
    bench.gpu.answers[_UTILIZATION] = [utilization_sample(100, 80, 15 * SECOND)]
    bench.read_at(20)

    bench.gpu.answers[_UTILIZATION] = [utilization_sample(100, 80, 21 * SECOND)]
    assert bench.read_at(22)["process_utilization_percentage"] == 80.0


def test_samples_that_were_counted_are_not_counted_again(
    bench: Bench, mocker: MockerFixture
) -> None:
    known = [utilization_sample(100, 80, 9 * SECOND)]
    sys.modules["pynvml"].nvmlDeviceGetProcessUtilization = mocker.Mock(return_value=known)  # type: ignore[attr-defined] # the fake's

    assert bench.read_at(10)["process_utilization_percentage"] == 80.0
    assert bench.read_at(20)["process_utilization_percentage"] == 0.0


def test_more_than_all_is_all(bench: Bench) -> None:
    bench.read_at(0)
    bench.gpu.answers[_UTILIZATION] = [
        utilization_sample(pid, 60, 5 * SECOND) for pid in (100, 101)
    ]

    assert bench.read_at(10)["process_utilization_percentage"] == 100.0


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        (_PROCESSES, {"process_memory_megabytes", "process_utilization_percentage"}),
        (_UTILIZATION, {"process_utilization_percentage"}),
    ],
)
def test_what_the_user_may_not_know_is_left_out_and_said(
    bench: Bench, function: str, missing: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = bench.read_at(1).keys()
    bench.gpu.fails("NO_PERMISSION", [function])

    assert whole - bench.read_at(10).keys() == missing
    assert {reason for _, reason in bench.readings.why_missing()} == {"Insufficient Permissions"}
    assert not caplog.records
