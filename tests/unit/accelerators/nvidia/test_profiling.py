from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import FakeGpu, h100, load_gpu
from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.accelerators.nvidia.device import NvmlDevice
from mlflow_sysmetrics.accelerators.nvidia.opening import open_nvml
from mlflow_sysmetrics.accelerators.nvidia.profiling import ProfilingReadings
from mlflow_sysmetrics.host.backoff import LONGEST_PAUSE_S
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakes.fake_nvml import FakeNvml

    Install = Callable[..., FakeNvml]

WHOLE = {
    "sm_active_percentage": 80.5,
    "sm_occupancy_percentage": 45.25,
    "tensor_active_percentage": 33.0,
    "dram_active_percentage": 52.5,
}


def _open(install_nvml: Install, gpu: FakeGpu) -> tuple[FakeNvml, NvmlDevice]:
    module = install_nvml(gpu)
    return module, NvmlDevice(open_nvml(Host()), Address(0))


def test_readings_are_over_the_time_between_two_samples(install_nvml: Install) -> None:
    module, device = _open(install_nvml, h100())
    readings = ProfilingReadings(device)

    assert readings.read(0.0) == {}
    assert readings.read(1.0) == readings.read(2.0) == WHOLE
    assert module.asked("nvmlGpmSampleAlloc") == 2
    assert module.asked("nvmlGpmQueryDeviceSupport", 0) == 1

    readings.close()
    readings.close()
    assert module.gpm_samples == {}


def test_samples_too_close_to_each_other_are_not_taken(install_nvml: Install) -> None:
    module, device = _open(install_nvml, h100())
    readings = ProfilingReadings(device)
    readings.read(0.0)
    readings.read(1.0)

    assert readings.read(1.05) == {}
    assert module.asked("nvmlGpmSampleGet", 0) == 2
    assert readings.read(1.2) == WHOLE


def test_a_metric_that_is_not_reported_or_no_number_is_left_out(install_nvml: Install) -> None:
    gpu = h100()
    gpu.gpm |= {"2": math.nan}
    del gpu.gpm["10"]
    _, device = _open(install_nvml, gpu)
    readings = ProfilingReadings(device)
    readings.read(0.0)

    assert readings.read(1.0).keys() == {"sm_occupancy_percentage", "tensor_active_percentage"}


def test_a_gpu_before_hopper_is_asked_once(install_nvml: Install) -> None:
    module, device = _open(install_nvml, load_gpu("gt1030"))
    readings = ProfilingReadings(device)

    for tick in range(3):
        assert readings.read(tick * LONGEST_PAUSE_S) == {}

    assert module.asked("nvmlGpmQueryDeviceSupport", 0) == 1
    assert dict(readings.why_missing()) == dict.fromkeys(WHOLE, "the GPU has no GPM")
    assert module.gpm_samples == {}


def test_samples_are_made_anew_where_nvml_was_opened_anew(install_nvml: Install) -> None:
    module, device = _open(install_nvml, h100())
    readings = ProfilingReadings(device)
    readings.read(0.0)
    device.nvml.close()
    device.nvml.ensure_open()

    assert readings.read(1.0) == {}
    assert readings.read(2.0) == WHOLE
    assert module.asked("nvmlGpmSampleAlloc") == 4


def test_a_sample_that_fails_is_made_up_for(install_nvml: Install) -> None:
    gpu = h100()
    _, device = _open(install_nvml, gpu)
    readings = ProfilingReadings(device)
    readings.read(0.0)
    readings.read(1.0)
    gpu.fails("TIMEOUT", ["nvmlGpmSampleGet"])
    assert readings.read(2.0) == {}
    del gpu.answers["nvmlGpmSampleGet"]

    assert readings.read(LONGEST_PAUSE_S) == WHOLE


@pytest.mark.parametrize("failure", ["MEMORY", "UNKNOWN"])
def test_samples_that_cannot_be_had_are_tried_again(install_nvml: Install, failure: str) -> None:
    gpu = h100()
    module, device = _open(install_nvml, gpu)
    module.answers["nvmlGpmSampleAlloc"] = module.NVMLError(
        getattr(module, f"NVML_ERROR_{failure}")
    )
    readings = ProfilingReadings(device)
    assert readings.read(0.0) == {}

    del module.answers["nvmlGpmSampleAlloc"]
    assert readings.read(LONGEST_PAUSE_S) == {}
    assert readings.read(LONGEST_PAUSE_S + 1) == WHOLE
