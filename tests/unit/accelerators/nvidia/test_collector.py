from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import (
    consumer_card,
    error,
    h100,
    load_gpu,
    memory,
    process,
    utilization,
)
from fakes.simulation import Simulation
from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.catalog import metrics_of
from mlflow_sysmetrics.host.backoff import LONGEST_PAUSE_S
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_mock import MockerFixture

    from fakes.fake_nvml import FakeNvml
    from mlflow_sysmetrics.accelerators.nvidia.collector import NvidiaCollector

    Install = Callable[..., FakeNvml]
    Open = Callable[..., NvidiaCollector]

pytestmark = pytest.mark.usefixtures("nothing_said")

_POWER = "nvmlDeviceGetPowerUsage"
_PROCESSES = "nvmlDeviceGetComputeRunningProcesses"
_TEMPERATURE = "nvmlDeviceGetTemperature"
_MEMORY = "nvmlDeviceGetMemoryInfo"


@pytest.fixture
def clock() -> Simulation:
    return Simulation(began_ms=0)


@pytest.fixture
def open_collector(clock: Simulation, outside_containers: Path) -> Open:
    def open_it(**environ: str) -> NvidiaCollector:
        return open_nvidia(Host(root=outside_containers, environ=environ, clock=clock))

    return open_it


@pytest.fixture
def in_a_container(tmp_path: Path) -> Path:
    """A root under which this process is in a PID namespace of its own."""
    namespaces = tmp_path / "proc/self/ns"
    namespaces.mkdir(parents=True)
    (namespaces / "pid").symlink_to("pid:[4026532447]")
    return tmp_path


def _of(index: int, readings: dict[str, float]) -> dict[str, float]:
    """The readings of one GPU, by name after its number."""
    prefixes = (f"gpu_{index}_", f"gpu_{index}/")
    return {
        name[len(prefixes[0]) :]: value
        for name, value in readings.items()
        if name.startswith(prefixes)
    }


def test_reads_all_of_a_gpu(install_nvml: Install, open_collector: Open, clock: Simulation) -> None:
    gpu = h100()
    install_nvml(gpu)
    collector = open_collector(MLFLOW_SYSMETRICS_GPU_PROFILING="true")
    collector.collect()
    clock.time_s = 10.0
    gpu.fields |= {"83": 9_000_000 + 3_500_000, "74": 1_000_000_000 + 2_000_000_000, "4": 1}
    gpu.fields |= {"138@4294967295": 1_000_000 + 50, "142": 1, "143": 2}
    gpu.answers["nvmlDeviceGetCurrentClocksEventReasons"] = 0x40

    assert collector.collect() == {
        "gpu_0_utilization_percentage": 90,
        "gpu_0/memory_controller_utilization_percentage": 35,
        "gpu_0_memory_usage_megabytes": 20_000.0,
        "gpu_0_memory_usage_percentage": 25.0,
        "gpu_0_power_usage_watts": 350.0,
        "gpu_0_power_usage_percentage": 50.0,
        "gpu_0/power_limit_watts": 700.0,
        "gpu_0/energy_joules": 3500.0,
        "gpu_0/temperature_celsius": 61.0,
        "gpu_0/memory_temperature_celsius": 70.0,
        "gpu_0/sm_clock_megahertz": 1980.0,
        "gpu_0/memory_clock_megahertz": 2619.0,
        "gpu_0/throttled_power_seconds": 2.0,
        "gpu_0/throttled_thermal_seconds": 0.0,
        "gpu_0/throttled_hardware_seconds": 5.0,  # half of the ten, since it began within them
        "gpu_0/decoder_utilization_percentage": 3.0,
        "gpu_0/nvlink_receive_bytes": 0.0,
        "gpu_0/nvlink_transmit_bytes": 50 * 1024,
        "gpu_0/ecc_corrected_errors": 0.0,
        "gpu_0/ecc_uncorrected_errors": 1.0,
        "gpu_0/remapped_rows": 3.0,
        "gpu_0/pcie_receive_megabytes_per_second": 2500.0,
        "gpu_0/pcie_transmit_megabytes_per_second": 1500.0,
        "gpu_0/process_memory_megabytes": 0.0,
        "gpu_0/process_utilization_percentage": 0.0,
        "gpu_0/sm_active_percentage": 80.5,
        "gpu_0/sm_occupancy_percentage": 45.25,
        "gpu_0/tensor_active_percentage": 33.0,
        "gpu_0/dram_active_percentage": 52.5,
        "gpu/utilization_percentage": 90.0,
        "gpu/memory_usage_megabytes": 20_000.0,
        "gpu/power_usage_watts": 350.0,
        "gpu/energy_joules": 3500.0,
    }


def test_profiling_is_off_unless_it_is_wanted(install_nvml: Install, open_collector: Open) -> None:
    nvml = install_nvml(h100())
    collector = open_collector()

    readings = [collector.collect() for _ in range(2)][1]

    assert not {name for name in readings if "_active_" in name or "_occupancy_" in name}
    assert not {function for function, _ in nvml.calls if "Gpm" in function}


def test_a_tick_over_eight_gpus_asks_each_question_once(
    install_nvml: Install, open_collector: Open
) -> None:
    nvml = install_nvml(*map(h100, range(8)))
    collector = open_collector()
    collector.collect()
    nvml.calls.clear()

    readings = collector.collect()

    utilization = [readings[f"gpu_{index}_utilization_percentage"] for index in range(8)]
    assert utilization == [90, 91, 92, 93, 94, 95, 96, 97]
    assert {nvml.asked("nvmlDeviceGetFieldValues", index) for index in range(8)} == {1}
    counts = {function: nvml.asked(function, 7) for function, _ in nvml.calls}
    twice = {"nvmlDeviceGetClockInfo"}  # each of the two clocks
    assert counts == {function: 2 if function in twice else 1 for function in counts}
    kept_for_a_while = {"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPcieThroughput"}
    assert not counts.keys() & kept_for_a_while
    assert len(nvml.calls) == 8 * 12


def test_the_power_limit_is_asked_again_after_a_minute(
    install_nvml: Install, open_collector: Open, clock: Simulation
) -> None:
    gpu = h100()
    install_nvml(gpu)
    collector = open_collector()
    collector.collect()
    gpu.answers["nvmlDeviceGetEnforcedPowerLimit"] = 350_000

    clock.time_s = 59.0
    assert collector.collect()["gpu_0_power_usage_percentage"] == 50.0
    clock.time_s = 60.0
    assert collector.collect()["gpu_0_power_usage_percentage"] == 100.0


@pytest.mark.parametrize("name", ["h100", "gt1030", "h100-mig", "gb10"])
def test_every_reading_is_in_the_catalog(
    install_nvml: Install, open_collector: Open, name: str
) -> None:
    install_nvml(load_gpu(name))
    collector = open_collector(MLFLOW_SYSMETRICS_GPU_PROFILING="true")

    assert all(metrics_of(reading) for _ in range(2) for reading in collector.collect())


# What a GPU lacks


def test_what_a_card_lacks_is_left_out(install_nvml: Install, open_collector: Open) -> None:
    install_nvml(h100(), consumer_card())

    readings = open_collector().collect()

    assert _of(1, readings) == {
        "memory_usage_megabytes": 500.0,
        "memory_usage_percentage": 25.0,
        "power_usage_watts": 12.5,
        "energy_estimated_joules": 0.0,
        "temperature_celsius": 41.0,
        "fan_speed_percentage": 35.0,
        "sm_clock_megahertz": 1227.0,
        "memory_clock_megahertz": 3003.0,
        "pcie_receive_megabytes_per_second": 200.0,
        "pcie_transmit_megabytes_per_second": 100.0,
        "process_memory_megabytes": 0.0,
    }
    assert len(_of(0, readings)) == 24


def test_energy_is_estimated_where_it_is_not_counted(
    install_nvml: Install, open_collector: Open, clock: Simulation
) -> None:
    card = consumer_card()
    install_nvml(card)
    collector = open_collector()
    for time_s, milliwatts in ((0, 10_000), (10, 20_000), (20, 20_000)):
        clock.time_s = time_s
        card.answers[_POWER] = milliwatts
        readings = collector.collect()

    assert readings["gpu_0/energy_estimated_joules"] == 15 * 10 + 20 * 10
    assert "gpu_0/energy_joules" not in readings


def test_a_driver_out_of_support_costs_only_what_it_names_differently(
    install_nvml: Install, open_collector: Open
) -> None:
    install_nvml(consumer_card())
    whole = open_collector().collect()
    install_nvml(load_gpu("k80"))

    del whole["gpu_0/process_memory_megabytes"]
    assert open_collector().collect() == whole


def test_temperature_has_another_name_in_later_drivers(
    install_nvml: Install, open_collector: Open
) -> None:
    gpu = h100()
    gpu.fails("FUNCTION_NOT_FOUND", [f"{_TEMPERATURE}(0)"])
    gpu.answers[f"{_TEMPERATURE}V"] = 55
    install_nvml(gpu)

    collector = open_collector()
    collector.collect()

    assert collector.collect()["gpu_0/temperature_celsius"] == 55.0


def test_what_a_card_lacks_is_asked_once_and_said_at_debug_level(
    install_nvml: Install,
    open_collector: Open,
    clock: Simulation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    nvml = install_nvml(consumer_card())
    collector = open_collector()
    nvml.calls.clear()

    for _ in range(5):
        collector.collect()
        clock.time_s += LONGEST_PAUSE_S

    assert nvml.asked("nvmlDeviceGetUtilizationRates", 0) == 1
    assert nvml.asked("nvmlDeviceGetFieldValues", 0) == 1
    assert nvml.asked(_POWER, 0) == 5
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    messages = [record.getMessage() for record in caplog.records]
    assert (
        messages.count("mlflow-sysmetrics: GPU 0: nvmlDeviceGetUtilizationRates(): Not Supported")
        == 1
    )
    assert len(messages) == len(set(messages))


def test_doctors_notes_say_what_is_missing_and_why(
    install_nvml: Install, open_collector: Open
) -> None:
    install_nvml(h100(), load_gpu("gb10"))
    collector = open_collector()
    collector.collect()

    first, no_memory, second = collector.notes()
    assert first == (
        "GPU 0 does not report fan_speed_percentage, encoder_utilization_percentage: Not Supported"
    )
    assert no_memory == "GPU 1 has no memory of its own: it uses the host's"
    assert second == (
        "GPU 1 does not report memory_usage_megabytes, memory_usage_percentage, "
        "power_usage_percentage, power_limit_watts, memory_temperature_celsius, "
        "fan_speed_percentage, memory_clock_megahertz, encoder_utilization_percentage, "
        "nvlink_receive_megabytes_per_second, nvlink_transmit_megabytes_per_second, "
        "ecc_corrected_errors, ecc_uncorrected_errors, remapped_rows: Not Supported"
    )


def test_memory_shared_with_the_host_is_no_memory_of_the_gpu(
    install_nvml: Install, open_collector: Open
) -> None:
    install_nvml(load_gpu("gb10"))

    readings = open_collector().collect()

    assert not {name for name in readings if "memory_usage" in name}
    assert readings["gpu_0_utilization_percentage"] == 90


def test_nothing_is_divided_by_a_total_of_zero(install_nvml: Install, open_collector: Open) -> None:
    gpu = h100()
    gpu.answers["nvmlDeviceGetMemoryInfo"] = memory(used=0, total=0)
    gpu.answers["nvmlDeviceGetEnforcedPowerLimit"] = 0
    install_nvml(gpu)

    collector = open_collector()

    readings = _of(0, collector.collect())

    zeros = [
        "memory_usage_megabytes",
        "memory_usage_percentage",
        "power_usage_percentage",
        "power_limit_watts",
    ]
    assert not readings.keys() & {*zeros}
    reason = "the driver reports 0, as it does where there is none"
    assert f"GPU 0 does not report {', '.join(zeros)}: {reason}" in collector.notes()


def test_a_memory_without_a_sensor_is_said(install_nvml: Install, open_collector: Open) -> None:
    gpu = h100()
    gpu.fields["82"] = 0
    install_nvml(gpu)
    collector = open_collector()

    assert "gpu_0/memory_temperature_celsius" not in collector.collect()
    assert "GPU 0 does not report memory_temperature_celsius: the driver reports 0" in str(
        collector.notes()
    )
    gpu.fields["82"] = 70
    assert collector.collect()["gpu_0/memory_temperature_celsius"] == 70.0
    assert "memory_temperature" not in str(collector.notes())


def test_a_gpu_at_rest_reads_zero(install_nvml: Install, open_collector: Open) -> None:
    gpu = h100()
    gpu.answers |= {_POWER: 0, "nvmlDeviceGetUtilizationRates": utilization(0)}
    install_nvml(gpu)

    readings = open_collector().collect()

    assert readings["gpu_0_utilization_percentage"] == 0.0
    assert readings["gpu_0_power_usage_watts"] == 0.0
    assert readings["gpu_0_power_usage_percentage"] == 0.0


def test_instances_have_memory_and_a_gpu_in_mig_mode_no_utilisation(
    install_nvml: Install, open_collector: Open
) -> None:
    gpu = load_gpu("h100-mig", nvmlDeviceGetUtilizationRates=utilization(0))  # as some drivers do
    nvml = install_nvml(gpu)
    collector = open_collector(MLFLOW_SYSMETRICS_GPUS="all", MLFLOW_SYSMETRICS_GPU_PROFILING="true")

    readings = [collector.collect() for _ in range(2)][1]

    assert _memory(readings) == {
        "gpu_0/mig_0_memory_usage_megabytes": 2_500.0,
        "gpu_0/mig_0_memory_usage_percentage": 25.0,
        "gpu_0/mig_1_memory_usage_megabytes": 10_000.0,
        "gpu_0/mig_1_memory_usage_percentage": 25.0,
        "gpu_0_memory_usage_megabytes": 12_500.0,
        "gpu_0_memory_usage_percentage": 25.0,
        "gpu/memory_usage_megabytes": 12_500.0,
    }
    assert not {name for name in readings if "utilization" in name or "_active_" in name}
    assert nvml.asked("nvmlDeviceGetProcessUtilization", 0) == 0
    assert not {function for function, _ in nvml.calls if "Gpm" in function}
    assert readings["gpu_0_power_usage_watts"] == 350.0
    assert "GPU 0 is in MIG mode: it reports no utilisation" in collector.notes()[0]


def test_memory_that_instances_share_is_counted_once(
    install_nvml: Install, open_collector: Open
) -> None:
    gpu = load_gpu("h100-mig")
    first, second = gpu.instances
    for function in ("nvmlDeviceGetGpuInstanceId", _MEMORY):
        first.answers[function] = second.answers[function]
    install_nvml(gpu)

    readings = open_collector(MLFLOW_SYSMETRICS_GPUS="all").collect()

    assert readings["gpu_0/mig_0_memory_usage_megabytes"] == 10_000.0
    assert readings["gpu_0/mig_1_memory_usage_megabytes"] == 10_000.0
    assert readings["gpu/memory_usage_megabytes"] == 10_000.0


def test_there_is_no_sum_without_one_of_its_instances(
    install_nvml: Install, open_collector: Open
) -> None:
    gpu = load_gpu("h100-mig")
    gpu.instances[1].fails("UNKNOWN", [_MEMORY])
    install_nvml(gpu)
    collector = open_collector(MLFLOW_SYSMETRICS_GPUS="all")

    assert _memory(collector.collect()).keys() == {
        "gpu_0/mig_0_memory_usage_megabytes",
        "gpu_0/mig_0_memory_usage_percentage",
    }
    assert collector.notes()[-1] == (
        "GPU 0 does not report mig_1_memory_usage_megabytes, mig_1_memory_usage_percentage: "
        "Unknown Error"
    )


def test_the_runs_own_memory_is_asked_of_each_instance(
    install_nvml: Install, open_collector: Open
) -> None:
    gpu = load_gpu("h100-mig")
    gpu.fails("NO_PERMISSION", [_PROCESSES, _MEMORY])  # as it does to ordinary users
    for instance in gpu.instances:
        instance.answers[_PROCESSES] = [process(os.getpid(), 10**9), process(1, 10**9)]
    install_nvml(gpu)

    readings = open_collector(MLFLOW_SYSMETRICS_GPUS="all").collect()
    assert readings["gpu_0/process_memory_megabytes"] == 2000.0

    gpu.instances[1].fails("NO_PERMISSION", [_PROCESSES])
    collector = open_collector(MLFLOW_SYSMETRICS_GPUS="all")
    assert "gpu_0/process_memory_megabytes" not in collector.collect()
    assert "does not report process_memory_megabytes: Insufficient Permissions" in str(
        collector.notes()
    )


def _memory(readings: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in readings.items() if "memory_usage" in name}


# What fails


def test_a_gpu_lost_in_mid_run_is_warned_about_once(
    install_nvml: Install,
    open_collector: Open,
    clock: Simulation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = load_gpu("lost-in-mid-run")
    install_nvml(h100(0), lost)
    collector = open_collector()
    whole = collector.collect()
    assert len(_of(1, whole)) == 24

    for _ in range(5):
        clock.time_s += LONGEST_PAUSE_S
        readings = collector.collect()
        assert _of(0, readings).keys() >= _of(0, whole).keys()

    assert readings.keys() >= {name for name in whole if name.startswith("gpu_0")}
    assert {name.partition("_")[2][0] for name in readings} == {"0"}
    assert lost.called > 40
    assert [record.getMessage() for record in caplog.records] == [
        (
            "mlflow-sysmetrics: GPU 1: GPU is lost: it fell off the bus; reset it or reboot the "
            "host; what fails is left out and tried again at growing intervals"
        )
    ]


def test_there_is_no_total_without_one_of_its_parts(
    install_nvml: Install, open_collector: Open
) -> None:
    second = h100(1)
    install_nvml(h100(0), second)
    collector = open_collector()
    whole = collector.collect()
    assert whole["gpu/power_usage_watts"] == 700.0
    assert whole["gpu/memory_usage_megabytes"] == 40_000.0
    assert whole["gpu/utilization_percentage"] == 90.5

    second.fails("UNKNOWN", [_POWER])
    readings = collector.collect()

    assert whole.keys() - readings.keys() == {
        "gpu/power_usage_watts",
        "gpu_1_power_usage_watts",
        "gpu_1_power_usage_percentage",
    }


def test_a_failing_call_is_tried_at_growing_intervals(
    install_nvml: Install, open_collector: Open, clock: Simulation
) -> None:
    gpu = h100()
    gpu.fails("TIMEOUT", [_POWER])
    nvml = install_nvml(gpu)
    collector = open_collector()

    tried_at_s = []
    for second in range(1000):
        clock.time_s = float(second)
        before = nvml.asked(_POWER, 0)
        collector.collect()
        if nvml.asked(_POWER, 0) > before:
            tried_at_s.append(second)

    assert tried_at_s == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]


def test_a_call_that_recovers_is_read_again_and_forgiven(
    install_nvml: Install, open_collector: Open, clock: Simulation
) -> None:
    gpu = h100()
    answer = gpu.answers[_POWER]
    nvml = install_nvml(gpu)
    collector = open_collector()
    for _ in range(2):  # pauses of 1 s, then, since it had recovered, of 1 s again
        gpu.answers[_POWER] = error("UNKNOWN")
        collector.collect()
        clock.time_s += 1.0
        gpu.answers[_POWER] = answer
        assert collector.collect()["gpu_0_power_usage_watts"] == 350.0

    assert nvml.asked(_POWER, 0) == 4


def test_a_driver_loaded_anew_is_found_and_totals_go_on(
    install_nvml: Install,
    open_collector: Open,
    clock: Simulation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpu, whole = h100(), h100()
    nvml = install_nvml(gpu)
    collector = open_collector()
    collector.collect()
    clock.time_s += 10
    gpu.fields["83"] = 9_000_000 + 1_000_000
    assert collector.collect()["gpu_0/energy_joules"] == 1000.0

    gpu.fails("UNKNOWN")
    clock.time_s += 10
    assert collector.collect() == {}
    nvml.answers["nvmlInit"] = error("DRIVER_NOT_LOADED")
    clock.time_s += 10
    with pytest.raises(Unavailable, match="not loaded"):
        collector.collect()
    assert collector.collect() == {}  # it is left alone for a while

    nvml.answers["nvmlInit"] = None
    gpu.recovers(whole)
    gpu.fields["83"] = 500_000  # counted anew
    clock.time_s += LONGEST_PAUSE_S
    assert collector.collect()["gpu_0/energy_joules"] == 1000.0
    gpu.fields["83"] = 700_000
    assert collector.collect()["gpu_0/energy_joules"] == 1200.0
    assert len(caplog.records) == 1
    assert nvml.users[os.getpid()] == 1


def test_a_gpu_whose_handle_cannot_be_had_comes_back(
    install_nvml: Install, open_collector: Open, clock: Simulation
) -> None:
    gpu = h100()
    install_nvml(gpu)
    collector = open_collector()
    gpu.answers["nvmlDeviceGetHandleByIndex"] = error("GPU_IS_LOST")
    gpu.answers["nvmlDeviceGetHandleByUUID"] = error("GPU_IS_LOST")
    gpu.fails("GPU_IS_LOST", [_POWER])
    collector.collect()
    clock.time_s += LONGEST_PAUSE_S
    collector.collect()

    gpu.recovers(h100())
    clock.time_s += LONGEST_PAUSE_S

    assert len(_of(0, collector.collect())) == 25


def test_a_forked_child_that_cannot_open_nvml_says_why(
    install_nvml: Install, open_collector: Open, mocker: MockerFixture
) -> None:
    nvml = install_nvml(h100())
    collector = open_collector()
    mocker.patch("os.getpid", return_value=0)
    nvml.answers["nvmlInit"] = error("NO_PERMISSION")

    with pytest.raises(Unavailable, match="no permission"):
        collector.collect()


def test_close_lets_go_of_all_once(install_nvml: Install, open_collector: Open) -> None:
    nvml = install_nvml(h100())
    collector = open_collector(MLFLOW_SYSMETRICS_GPU_PROFILING="1")
    collector.collect()
    assert len(nvml.gpm_samples) == 2

    collector.close()
    collector.close()

    assert nvml.asked("nvmlShutdown") == 1
    assert nvml.gpm_samples == {}


# Whose GPUs


def _indices(readings: dict[str, float]) -> set[str]:
    return {name[4:].replace("/", "_").split("_")[0] for name in readings if name[4].isdigit()}


def test_the_keys_have_the_numbers_that_nvidia_smi_shows(
    install_nvml: Install, open_collector: Open
) -> None:
    install_nvml(*map(h100, range(8)))

    readings = open_collector(CUDA_VISIBLE_DEVICES="6,3").collect()

    assert _indices(readings) == {"3", "6"}
    assert readings["gpu_6_utilization_percentage"] == 96
    assert readings["gpu/power_usage_watts"] == 700.0


def test_all_are_all_whatever_cuda_is_given(install_nvml: Install, open_collector: Open) -> None:
    install_nvml(*map(h100, range(3)))

    collector = open_collector(CUDA_VISIBLE_DEVICES="1", MLFLOW_SYSMETRICS_GPUS="all")

    assert _indices(collector.collect()) == {"0", "1", "2"}


def test_used_are_those_on_which_a_process_of_the_tree_was_seen(
    install_nvml: Install, open_collector: Open
) -> None:
    gpus = [h100(index) for index in range(3)]
    nvml = install_nvml(*gpus)
    collector = open_collector(MLFLOW_SYSMETRICS_GPUS="used")
    gpus[0].answers[_PROCESSES] = [process(1, 10**9)]
    assert collector.collect() == {}

    gpus[2].answers[_PROCESSES] = [process(os.getpid(), 10**9)]
    readings = collector.collect()
    assert _indices(readings) == {"2"}
    assert readings["gpu/power_usage_watts"] == 350.0
    assert nvml.asked(_POWER, 1) == 0

    gpus[2].answers[_PROCESSES] = []  # what it used it goes on to tell, so that totals have no gap
    assert _indices(collector.collect()) == {"2"}


def test_of_a_gpu_in_mig_mode_those_instances_are_used_on_which_a_process_was_seen(
    install_nvml: Install, open_collector: Open
) -> None:
    gpu = load_gpu("h100-mig")
    install_nvml(gpu)
    collector = open_collector(MLFLOW_SYSMETRICS_GPUS="used")
    assert collector.collect() == {}

    gpu.instances[1].answers[_PROCESSES] = [process(os.getpid(), 10**9)]
    readings = collector.collect()

    assert readings["gpu/memory_usage_megabytes"] == 10_000.0
    assert "gpu_0/mig_0_memory_usage_megabytes" not in readings


@pytest.mark.parametrize("failure", ["NOT_SUPPORTED", "NO_PERMISSION"])
def test_gpus_that_withhold_their_processes_are_used_if_they_are_visible(
    install_nvml: Install, open_collector: Open, failure: str
) -> None:
    gpus = [h100(index) for index in range(3)]
    install_nvml(*gpus)
    for gpu in gpus[:2]:
        gpu.fails(failure, [_PROCESSES])
    gpus[2].answers[_PROCESSES] = [process(os.getpid(), 10**9)]

    collector = open_collector(MLFLOW_SYSMETRICS_GPUS="used", CUDA_VISIBLE_DEVICES="1")

    assert _indices(collector.collect()) == {"1", "2"}


def test_instances_that_withhold_their_processes_are_used_if_they_are_visible(
    install_nvml: Install, open_collector: Open
) -> None:
    gpu = load_gpu("h100-mig")
    for instance in gpu.instances:
        instance.fails("NO_PERMISSION", [_PROCESSES])
    install_nvml(gpu)

    readings = open_collector(MLFLOW_SYSMETRICS_GPUS="used").collect()

    assert readings["gpu/memory_usage_megabytes"] == 2_500.0  # the one that CUDA takes


def test_a_gpu_that_is_lost_withholds_nothing(install_nvml: Install, open_collector: Open) -> None:
    gpu = h100()
    gpu.fails("GPU_IS_LOST", [_PROCESSES])
    install_nvml(gpu)

    assert open_collector(MLFLOW_SYSMETRICS_GPUS="used").collect() == {}


@pytest.mark.parametrize(("root_pid", "megabytes"), [(os.getppid(), 1000.0), (2**31 - 1, 0.0)])
def test_the_tree_may_be_another_processs(
    install_nvml: Install, outside_containers: Path, root_pid: int, megabytes: float
) -> None:
    gpu = h100()
    gpu.answers[_PROCESSES] = [process(os.getpid(), 10**9)]
    install_nvml(gpu)

    collector = open_nvidia(Host(root=outside_containers, environ={}, pid=root_pid))

    assert collector.collect()["gpu_0/process_memory_megabytes"] == megabytes


def test_where_processes_cannot_be_identified_used_means_visible(
    install_nvml: Install, in_a_container: Path
) -> None:
    install_nvml(h100(0), h100(1))
    environ = {"MLFLOW_SYSMETRICS_GPUS": "used", "CUDA_VISIBLE_DEVICES": "1"}

    collector = open_nvidia(Host(root=in_a_container, system="Linux", environ=environ))
    readings = collector.collect()

    assert _indices(readings) == {"1"}
    assert not {name for name in readings if "process" in name}
    assert "in a PID namespace of its own" in collector.notes()[0]


def test_of_models_that_cuda_may_count_otherwise_those_used_are_the_runs(
    install_nvml: Install, open_collector: Open, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = h100()
    install_nvml(consumer_card(), gpu)
    collector = open_collector(CUDA_VISIBLE_DEVICES="0")
    assert collector.collect() == {}

    gpu.answers[_PROCESSES] = [process(os.getpid(), 10**9)]

    assert _indices(collector.collect()) == {"1"}
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in collector.notes()[0]
    assert not caplog.records


def test_models_that_cuda_may_count_otherwise_are_warned_about_where_processes_are_not_reported(
    install_nvml: Install, in_a_container: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install_nvml(consumer_card(), h100())
    environ = {"CUDA_VISIBLE_DEVICES": "0"}

    collector = open_nvidia(Host(root=in_a_container, system="Linux", environ=environ))

    assert _indices(collector.collect()) == {"0"}
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in collector.notes()[0]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_no_gpu_for_this_process_leaves_nvml_closed(
    install_nvml: Install, open_collector: Open
) -> None:
    nvml = install_nvml(h100())

    with pytest.raises(Unavailable, match="CUDA_VISIBLE_DEVICES='-1' gives this process no GPU"):
        open_collector(CUDA_VISIBLE_DEVICES="-1")

    assert nvml.users[os.getpid()] == 0


def test_a_mig_instance_is_reported_alone_where_it_alone_is_given(
    install_nvml: Install, open_collector: Open
) -> None:
    install_nvml(load_gpu("h100-mig"))

    readings = open_collector(CUDA_VISIBLE_DEVICES="MIG-33333333").collect()

    assert {name for name in readings if "/mig_" in name} == {
        "gpu_0/mig_1_memory_usage_megabytes",
        "gpu_0/mig_1_memory_usage_percentage",
    }
