"""Every NVML call that we make, with one error of each kind: nothing else is lost.

And with what else pynvml raises: an exception of its own where the driver lacks a function that
it wraps, as the fake does, too; and what Python raises for text that is none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import (
    ERROR_CODES,
    NO_TEXT,
    FakeGpu,
    error,
    h100,
    load_gpu,
    utilization_sample,
)
from fakes.simulation import Simulation
from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.accelerators.nvidia.inventory import read_inventory
from mlflow_sysmetrics.accelerators.nvidia.nvml import Field
from mlflow_sysmetrics.accelerators.nvidia.opening import open_nvml
from mlflow_sysmetrics.accelerators.nvidia.readings import READINGS, Reading
from mlflow_sysmetrics.catalog import gpu_name
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fakes.fake_nvml import FakeNvml
    from mlflow_sysmetrics.accelerators.nvidia.collector import NvidiaCollector

    Install = Callable[..., FakeNvml]
    Open = Callable[[], NvidiaCollector]

pytestmark = pytest.mark.usefixtures("nothing_said")

KINDS = (
    "NOT_SUPPORTED",  # never will be
    "FUNCTION_NOT_FOUND",  # pynvml raises an exception of its own
    "NO_PERMISSION",  # the GPU is healthy
    "NOT_FOUND",  # an empty list
    "GPU_IS_LOST",  # may come back
    "UNINITIALIZED",  # NVML has to be opened again
    "INVALID_ARGUMENT",  # of a field: newer than the driver
)
ERRORS = (*KINDS, NO_TEXT)

ALL = {"*"}
UTILIZATION = {"utilization_percentage", "memory_controller_utilization_percentage"}
MEMORY = {"memory_usage_megabytes", "memory_usage_percentage"}
PROFILING = {
    "sm_active_percentage",
    "sm_occupancy_percentage",
    "tensor_active_percentage",
    "dram_active_percentage",
}
BY_FIELDS = {row.name for row in READINGS if any(isinstance(ask, Field) for ask in row.asks)}
FIELDS = [ask.number for row in READINGS for ask in row.asks if isinstance(ask, Field)]

# What a device loses when a function fails for it.
LOST_READINGS = {
    "nvmlDeviceGetHandleByIndex": ALL,
    "nvmlDeviceGetUtilizationRates": UTILIZATION,
    "nvmlDeviceGetMemoryInfo": MEMORY,
    "nvmlDeviceGetPowerUsage": {"power_usage_watts", "power_usage_percentage"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_watts", "power_usage_percentage"},
    "nvmlDeviceGetTemperature(0)": {"temperature_celsius"},
    "nvmlDeviceGetClockInfo(1)": {"sm_clock_megahertz"},
    "nvmlDeviceGetClockInfo(2)": {"memory_clock_megahertz"},
    "nvmlDeviceGetFanSpeed": {"fan_speed_percentage"},
    "nvmlDeviceGetEncoderUtilization": {"encoder_utilization_percentage"},
    "nvmlDeviceGetDecoderUtilization": {"decoder_utilization_percentage"},
    "nvmlDeviceGetCurrentClocksEventReasons": {"throttled_hardware_seconds"},
    "nvmlDeviceGetPcieThroughput(0)": {"pcie_transmit_megabytes_per_second"},
    "nvmlDeviceGetPcieThroughput(1)": {"pcie_receive_megabytes_per_second"},
    "nvmlDeviceGetFieldValues": BY_FIELDS,
    "nvmlDeviceGetComputeRunningProcesses": {
        "process_memory_megabytes",
        "process_utilization_percentage",
    },
    "nvmlDeviceGetProcessUtilization": {"process_utilization_percentage"},
    "nvmlGpmQueryDeviceSupport": PROFILING,
    "nvmlGpmSampleGet": PROFILING,
}
# What all devices lose when a function fails that concerns none.
LOST_BY_ALL = {
    "nvmlGpmSampleAlloc": PROFILING,
    "nvmlGpmMetricsGet": PROFILING,
}
HARMLESS = (
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetMPSComputeRunningProcesses",
    "nvmlGpmSampleFree",
)
FINDING_INSTANCES = ("nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex")
# What a GPU in MIG mode loses when a function fails for its first instance.
INSTANCE_MEMORY = {*MEMORY, "mig_0_memory_usage_megabytes", "mig_0_memory_usage_percentage"}
LOST_WITH_ONE_INSTANCE = {
    "nvmlDeviceGetHandleByUUID": {*INSTANCE_MEMORY, "process_memory_megabytes"},
    "nvmlDeviceGetMemoryInfo": INSTANCE_MEMORY,
    "nvmlDeviceGetComputeRunningProcesses": {"process_memory_megabytes"},
    "nvmlDeviceGetUUID": set[str](),
    "nvmlDeviceGetName": set[str](),
    "nvmlDeviceGetGpuInstanceId": set[str](),
    "nvmlDeviceGetComputeInstanceId": set[str](),
}
# Asked only where another does not exist.
IN_PLACE_OF_OTHERS = {"nvmlDeviceGetTemperatureV": "temperature_celsius"}

LOST_FACTS = {
    "nvmlDeviceGetHandleByIndex": {
        "name",
        "memory_bytes",
        "uuid",
        "pci_id",
        "compute_capability",
        "power_limit_watts",
    },
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetMemoryInfo": {"memory_bytes"},
    "nvmlDeviceGetUUID": {"uuid"},
    "nvmlDeviceGetPciInfo": {"pci_id"},
    "nvmlDeviceGetCudaComputeCapability": {"compute_capability"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_watts"},
    "nvmlDeviceGetMigMode": set[str](),
}
LOST_DRIVER_FACTS = {
    "nvmlSystemGetDriverVersion": "driver",
    "nvmlSystemGetCudaDriverVersion_v2": "cuda",
}
OPENING = ("nvmlInit", "nvmlDeviceGetCount")
CLOSING = ("nvmlShutdown",)


class PassingTime(Simulation):
    """A clock of which each look takes a while, but all of a test less than a pause."""

    def now_s(self) -> float:
        self.time_s += 1 / 16
        return self.time_s


def whole_gpu(index: int) -> FakeGpu:
    """A GPU that has every row."""
    gpu = h100(index)
    gpu.answers |= {
        "nvmlDeviceGetFanSpeed": 40,
        "nvmlDeviceGetEncoderUtilization": [5, 100_000],
        "nvmlDeviceGetProcessUtilization": [utilization_sample(1, 0, 10**12)],  # always new
    }
    return gpu


def later_gpu() -> FakeGpu:
    """A GPU whose driver has another call for the temperature."""
    gpu = load_gpu("gt1030")
    gpu.answers["nvmlDeviceGetTemperature(0)"] = error("FUNCTION_NOT_FOUND")
    gpu.answers["nvmlDeviceGetTemperatureV"] = 41
    return gpu


@pytest.fixture
def open_collector(outside_containers: Path) -> Open:
    environ = {"MLFLOW_SYSMETRICS_GPU_PROFILING": "true", "MLFLOW_SYSMETRICS_GPUS": "all"}
    host = Host(
        root=outside_containers, system="Linux", environ=environ, clock=PassingTime(began_ms=0)
    )
    return lambda: open_nvidia(host)


def test_no_call_is_forgotten_here(install_nvml: Install, open_collector: Open) -> None:
    called = set()
    for gpu in (h100(), later_gpu(), load_gpu("h100-mig")):
        nvml = install_nvml(gpu)
        collector = open_collector()
        for _ in range(2):
            collector.collect()
        collector.close()
        collector.collect()
        called |= {function for function, _ in nvml.calls}

    tried = {*LOST_READINGS, *LOST_BY_ALL, *LOST_FACTS, *LOST_DRIVER_FACTS, *OPENING, *CLOSING}
    tried |= {*HARMLESS, *FINDING_INSTANCES, *LOST_WITH_ONE_INSTANCE, *IN_PLACE_OF_OTHERS}
    assert called == {name.partition("(")[0] for name in tried}


def test_the_gpu_that_these_tests_take_something_from_has_all(
    install_nvml: Install, open_collector: Open
) -> None:
    install_nvml(whole_gpu(0))
    collector = open_collector()
    collector.collect()

    known = {name for lost in LOST_READINGS.values() for name in lost} - ALL
    assert {gpu_name(0, name) for name in known} <= collector.collect().keys()


@pytest.mark.parametrize("function", LOST_READINGS)
def test_a_failing_call_costs_only_its_readings(
    install_nvml: Install, open_collector: Open, function: str
) -> None:
    install_nvml(whole_gpu(0), whole_gpu(1))
    whole = _third_sample(open_collector())
    for failure in ERRORS:
        gpu = whole_gpu(0)
        gpu.fails(failure, [function])
        install_nvml(gpu, whole_gpu(1))

        readings = _third_sample(open_collector())

        assert readings == _without(whole, LOST_READINGS[function], readings), failure


@pytest.mark.parametrize("function", LOST_BY_ALL)
def test_a_failing_call_that_concerns_no_device_costs_only_its_readings(
    install_nvml: Install, open_collector: Open, function: str
) -> None:
    nvml = install_nvml(whole_gpu(0))
    whole = _third_sample(open_collector())
    for failure in ERRORS:
        nvml = install_nvml(whole_gpu(0))
        nvml.answers[function] = error(failure)

        readings = _third_sample(open_collector())

        assert readings == _without(whole, LOST_BY_ALL[function], readings), failure


@pytest.mark.parametrize("number", FIELDS)
def test_a_failing_field_costs_only_its_readings(
    install_nvml: Install, open_collector: Open, number: int
) -> None:
    install_nvml(whole_gpu(0), whole_gpu(1))
    whole = _third_sample(open_collector())
    lost = {row.name for row in READINGS if number in _fields_of(row)}
    for failure in KINDS:
        gpu = whole_gpu(0)
        (key,) = (key for key in gpu.fields if key.partition("@")[0] == str(number))
        gpu.fields[key] = failure
        install_nvml(gpu, whole_gpu(1))

        readings = _third_sample(open_collector())

        assert readings == _without(whole, lost, readings), failure


def test_whatever_the_code_of_an_error_only_the_readings_of_its_call_are_lost(
    install_nvml: Install, open_collector: Open
) -> None:
    function = "nvmlDeviceGetPowerUsage"
    install_nvml(whole_gpu(0))
    whole = _third_sample(open_collector())
    for failure in ERROR_CODES:
        gpu = whole_gpu(0)
        gpu.fails(failure, [function])
        install_nvml(gpu)

        readings = _third_sample(open_collector())

        assert readings == _without(whole, LOST_READINGS[function], readings), failure


@pytest.mark.parametrize("function", HARMLESS)
def test_what_can_be_done_without_costs_nothing(
    install_nvml: Install, open_collector: Open, function: str
) -> None:
    install_nvml(whole_gpu(0))
    whole = _third_sample(open_collector())
    for failure in ERRORS:
        gpu = whole_gpu(0)
        gpu.fails(failure, [function])
        nvml = install_nvml(gpu)
        nvml.answers[function] = error(failure)

        collector = open_collector()
        assert _third_sample(collector) == whole, failure
        collector.close()


@pytest.mark.parametrize("function", FINDING_INSTANCES)
def test_a_gpu_without_its_instances_keeps_the_rest(
    install_nvml: Install, open_collector: Open, function: str
) -> None:
    install_nvml(load_gpu("h100-mig"))
    whole = _third_sample(open_collector())
    kept = {name: value for name, value in whole.items() if "memory_usage" not in name}
    for failure in ERRORS:
        gpu = load_gpu("h100-mig")
        gpu.fails(failure, [function])
        install_nvml(gpu)

        assert _third_sample(open_collector()) == kept, failure


@pytest.mark.parametrize("function", LOST_WITH_ONE_INSTANCE)
def test_an_instance_that_fails_costs_only_its_readings_and_sums(
    install_nvml: Install, open_collector: Open, function: str
) -> None:
    install_nvml(load_gpu("h100-mig"))
    whole = _third_sample(open_collector())
    for failure in ERRORS:
        gpu = load_gpu("h100-mig")
        gpu.instances[0].fails(failure, [function])
        install_nvml(gpu)

        readings = _third_sample(open_collector())

        assert readings == _without(whole, LOST_WITH_ONE_INSTANCE[function], readings), failure


@pytest.mark.parametrize("function", IN_PLACE_OF_OTHERS)
def test_what_stands_in_may_fail_too(
    install_nvml: Install, open_collector: Open, function: str
) -> None:
    install_nvml(later_gpu())
    whole = _third_sample(open_collector())
    lost = gpu_name(0, IN_PLACE_OF_OTHERS[function])
    assert lost in whole
    for failure in ERRORS:
        gpu = later_gpu()
        gpu.fails(failure, [function])
        install_nvml(gpu)

        readings = _third_sample(open_collector())

        assert readings == {name: value for name, value in whole.items() if name != lost}, failure


@pytest.mark.parametrize("function", LOST_FACTS)
def test_a_failing_call_costs_only_its_facts(install_nvml: Install, function: str) -> None:
    install_nvml(h100(0), h100(1))
    whole = read_inventory(open_nvml(Host()))
    for failure in ERRORS:
        gpu = h100(0)
        gpu.answers[function] = error(failure)
        install_nvml(gpu, h100(1))

        inventory = read_inventory(open_nvml(Host()))

        differing = {
            name
            for name, value in vars(inventory.devices[0]).items()
            if value != getattr(whole.devices[0], name)
        }
        assert differing == LOST_FACTS[function], failure
        assert inventory.devices[1] == whole.devices[1]


@pytest.mark.parametrize("function", LOST_DRIVER_FACTS)
def test_a_failing_call_costs_only_its_driver_fact(install_nvml: Install, function: str) -> None:
    nvml = install_nvml(h100())
    whole = vars(read_inventory(open_nvml(Host())))
    for failure in ERRORS:
        nvml.answers[function] = error(failure)

        inventory = vars(read_inventory(open_nvml(Host())))

        assert inventory == {**whole, LOST_DRIVER_FACTS[function]: None}, failure


@pytest.mark.parametrize("function", OPENING)
def test_a_failing_start_says_why_and_holds_nothing(
    install_nvml: Install, open_collector: Open, function: str
) -> None:
    for failure in ERROR_CODES:
        nvml = install_nvml(h100())
        nvml.answers[function] = error(failure)

        with pytest.raises(Unavailable, match=r"\w+ \w+"):
            open_collector()

        assert nvml.users[os.getpid()] == 0, failure


def test_a_failing_end_goes_unnoticed(install_nvml: Install, open_collector: Open) -> None:
    for failure in ERROR_CODES:
        nvml = install_nvml(h100())
        nvml.answers["nvmlShutdown"] = error(failure)
        collector = open_collector()

        collector.close()
        collector.close()

        assert nvml.asked("nvmlShutdown") == 1, failure


def _fields_of(row: Reading) -> list[int]:
    return [ask.number for ask in row.asks if isinstance(ask, Field)]


def _third_sample(collector: NvidiaCollector) -> dict[str, float]:
    """The third: it has what is over the time between two, also where NVML was opened anew."""
    return [collector.collect() for _ in range(3)][-1]


def _without(
    whole: dict[str, float], lost: set[str], readings: dict[str, float]
) -> dict[str, float]:
    """All readings but some of GPU 0's, and but the totals that these were part of."""
    of_gpu_0 = {name[6:] for name in whole if name.startswith(("gpu_0_", "gpu_0/"))}
    gone = of_gpu_0 if lost == ALL else lost
    names = {gpu_name(0, name) for name in gone} | {f"gpu/{name}" for name in gone}
    kept = {name: value for name, value in whole.items() if name not in names}
    if "energy_joules" in lost:  # in its place, where the GPU will never tell it
        kept |= {name: value for name, value in readings.items() if "estimated" in name}
    return kept
