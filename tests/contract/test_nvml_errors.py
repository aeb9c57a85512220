"""Every NVML call that we make, with every error code that NVML has: nothing else is lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import ERROR_CODES, error, h100
from mlflow_sysmetrics.collectors.gpu import open_gpu
from mlflow_sysmetrics.host import Host, Unavailable
from mlflow_sysmetrics.sources.nvml import open_nvml

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakes.fake_nvml import FakeNvml

    Install = Callable[..., FakeNvml]

pytestmark = pytest.mark.usefixtures("nothing_said")

every_error = pytest.mark.parametrize("failure", ERROR_CODES)

# What a device loses when a function fails for it.
LOST_READINGS = {
    "nvmlDeviceGetHandleByIndex": {
        "utilization_percentage",
        "memory_usage_megabytes",
        "memory_usage_percentage",
        "power_usage_watts",
        "power_usage_percentage",
    },
    "nvmlDeviceGetUtilizationRates": {"utilization_percentage"},
    "nvmlDeviceGetMemoryInfo": {"memory_usage_megabytes", "memory_usage_percentage"},
    "nvmlDeviceGetPowerUsage": {"power_usage_watts", "power_usage_percentage"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_usage_percentage"},
}
LOST_FACTS = {
    "nvmlDeviceGetHandleByIndex": {"name", "memory_bytes", "uuid"},
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetMemoryInfo": {"memory_bytes"},
    "nvmlDeviceGetUUID": {"uuid"},
}
LOST_DRIVER_FACTS = {
    "nvmlSystemGetDriverVersion": "driver",
    "nvmlSystemGetCudaDriverVersion_v2": "cuda",
}
OPENING = ("nvmlInit", "nvmlDeviceGetCount")
CLOSING = ("nvmlShutdown",)


def test_no_call_is_forgotten_here(install_nvml: Install) -> None:
    nvml = install_nvml(h100())
    collector = open_gpu(Host())
    collector.collect()
    collector.close()
    open_nvml(Host()).inventory()

    tried = {*LOST_READINGS, *LOST_FACTS, *LOST_DRIVER_FACTS, *OPENING, *CLOSING}
    assert {function for function, _ in nvml.calls} == tried


@every_error
@pytest.mark.parametrize("function", LOST_READINGS)
def test_a_failing_call_costs_only_its_readings(
    install_nvml: Install, function: str, failure: str
) -> None:
    gpu = h100(0)
    install_nvml(gpu, h100(1))
    whole = open_gpu(Host()).collect()
    gpu.answers[function] = error(failure)
    collector = open_gpu(Host())

    lost = {f"gpu_0_{reading}" for reading in LOST_READINGS[function]}
    kept = {name: value for name, value in whole.items() if name not in lost}
    assert collector.collect() == kept
    assert collector.collect() == kept
    collector.close()


@every_error
@pytest.mark.parametrize("function", LOST_FACTS)
def test_a_failing_call_costs_only_its_facts(
    install_nvml: Install, function: str, failure: str
) -> None:
    gpu = h100(0)
    install_nvml(gpu, h100(1))
    whole = open_nvml(Host()).inventory()
    gpu.answers[function] = error(failure)

    inventory = open_nvml(Host()).inventory()

    differing = {
        name
        for name, value in vars(inventory.devices[0]).items()
        if value != getattr(whole.devices[0], name)
    }
    assert differing == LOST_FACTS[function]
    assert inventory.devices[1] == whole.devices[1]


@every_error
@pytest.mark.parametrize("function", LOST_DRIVER_FACTS)
def test_a_failing_call_costs_only_its_driver_fact(
    install_nvml: Install, function: str, failure: str
) -> None:
    nvml = install_nvml(h100())
    whole = vars(open_nvml(Host()).inventory())
    nvml.answers[function] = error(failure)

    inventory = vars(open_nvml(Host()).inventory())

    assert inventory == {**whole, LOST_DRIVER_FACTS[function]: None}


@every_error
@pytest.mark.parametrize("function", OPENING)
def test_a_failing_start_says_why_and_holds_nothing(
    install_nvml: Install, function: str, failure: str
) -> None:
    nvml = install_nvml(h100())
    nvml.answers[function] = error(failure)

    with pytest.raises(Unavailable, match=r"\w+ \w+"):
        open_gpu(Host())

    assert nvml.users[os.getpid()] == 0


@every_error
@pytest.mark.parametrize("function", CLOSING)
def test_a_failing_end_goes_unnoticed(install_nvml: Install, function: str, failure: str) -> None:
    nvml = install_nvml(h100())
    nvml.answers[function] = error(failure)
    collector = open_gpu(Host())

    collector.close()
    collector.close()

    assert nvml.asked(function) == 1
