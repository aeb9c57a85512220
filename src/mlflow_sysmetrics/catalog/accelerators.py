"""Metrics of GPUs and other accelerators, one by one and of all of the run's GPUs together."""

from __future__ import annotations

from functools import partial
from typing import Any

from mlflow_sysmetrics.catalog.model import (
    BYTES_TO_MEGABYTES,
    LINUX,
    LINUX_AND_WINDOWS,
    Aggregate,
    Metric,
)

_MLFLOWS_OWN = frozenset(
    (
        "utilization_percentage",
        "memory_usage_megabytes",
        "memory_usage_percentage",
        "power_usage_watts",
        "power_usage_percentage",
    )
)


def gpu_name(index: int, name: str) -> str:
    """Name of a reading of one GPU: MLflow's own lie beside its others, ours in a section."""
    return f"gpu_{index}_{name}" if name in _MLFLOWS_OWN else f"gpu_{index}/{name}"


def _metric(key: str, meaning: str, **described: Any) -> Metric:  # noqa: ANN401 - of any field
    """A metric by a key that ends with the unit, a mean unless something else is said."""
    unit = "megabytes per second" if key.endswith("_per_second") else key.rpartition("_")[2]
    return Metric(key, unit, described.pop("aggregate", Aggregate.MEAN), meaning, **described)


# Rows by what reports them.
_any_gpu = partial(_metric, source="NVML, /sys (amdgpu, xe, i915), ioreg")
_nvml_sysfs = partial(_metric, source="NVML, /sys (amdgpu, xe, i915)", platforms=LINUX_AND_WINDOWS)
_nvml_amd_mac = partial(_metric, source="NVML, /sys (amdgpu), ioreg")
_nvml_amd = partial(_metric, source="NVML, /sys (amdgpu)", platforms=LINUX_AND_WINDOWS)

_NOT_REPORTED = "where the GPU or its driver does not report it"
_NO_OWN_MEMORY = "on Intel GPUs, and on those that share the host's memory (GB10, Jetson)"
_NO_PROCESSES = "in a container's PID namespace, on Intel GPUs, and under Windows' WDDM"
_NO_TOTAL = "while one of the run's GPUs does not report it"

_ONE_GPU = (
    _any_gpu(
        "gpu_{index}_utilization_percentage",
        "Share of time in which at least one kernel ran; on Intel GPUs, in which the engines "
        "were awake.",
        absent="where the GPU does not report it, as in MIG mode",
    ),
    _nvml_amd(
        "gpu_{index}/memory_controller_utilization_percentage",
        "Share of time in which GPU memory was being read or written.",
        absent=_NOT_REPORTED,
    ),
    _nvml_amd_mac(
        "gpu_{index}_memory_usage_megabytes",
        "GPU memory in use, by all processes; in MIG mode, on the run's instances.",
        absent=_NO_OWN_MEMORY,
    ),
    _nvml_amd_mac(
        "gpu_{index}_memory_usage_percentage",
        "GPU memory in use, as a share of the GPU's memory.",
        absent=_NO_OWN_MEMORY,
    ),
    _metric(
        "gpu_{index}/host_memory_usage_megabytes",
        "Host memory that the GPU uses (GTT), by all processes: most of the memory of a GPU that "
        "is part of a CPU.",
        source="/sys (amdgpu)",
        absent=_NOT_REPORTED,
        platforms=LINUX,
    ),
    _any_gpu("gpu_{index}_power_usage_watts", "Power draw.", absent=_NOT_REPORTED),
    _nvml_sysfs(
        "gpu_{index}_power_usage_percentage",
        "Power draw, as a share of the power limit in force.",
        absent=_NOT_REPORTED,
    ),
    _nvml_sysfs(
        "gpu_{index}/power_limit_watts",
        "Power limit in force: the lowest of those that are set.",
        absent=_NOT_REPORTED,
    ),
    _nvml_sysfs(
        "gpu_{index}/energy_joules",
        "Energy used since the run opened, by the GPU's own counter.",
        absent="without an energy counter, as on AMD GPUs and on NVIDIA GPUs before Volta",
        aggregate=Aggregate.TOTAL,
    ),
    _nvml_amd(
        "gpu_{index}/energy_estimated_joules",
        "Energy used since the run opened, estimated from the power draw at the samples.",
        absent="where the GPU has an energy counter",
        aggregate=Aggregate.TOTAL,
    ),
    _any_gpu("gpu_{index}/temperature_celsius", "Temperature of the GPU.", absent=_NOT_REPORTED),
    _nvml_sysfs(
        "gpu_{index}/memory_temperature_celsius",
        "Temperature of the GPU's memory.",
        absent="where the memory has no sensor, as on most consumer cards",
    ),
    _nvml_amd_mac(
        "gpu_{index}/fan_speed_percentage",
        "Intended speed of the fan, as a share of its full speed; may exceed 100.",
        absent="without a fan of its own",
    ),
    _any_gpu(
        "gpu_{index}/sm_clock_megahertz",
        "Clock of the processors: NVIDIA's SMs, AMD's shaders, Intel's graphics engines.",
        absent=_NOT_REPORTED,
    ),
    _nvml_amd_mac(
        "gpu_{index}/memory_clock_megahertz", "Clock of the GPU memory.", absent=_NOT_REPORTED
    ),
    _nvml_amd(
        "gpu_{index}/process_memory_megabytes",
        "GPU memory in use by the process tree.",
        absent=_NO_PROCESSES,
    ),
)

_ALL_GPUS = (
    _any_gpu("gpu/utilization_percentage", "Mean utilisation of the run's GPUs.", absent=_NO_TOTAL),
    _nvml_amd_mac(
        "gpu/memory_usage_megabytes",
        "Memory in use on all of the run's GPUs together.",
        absent=_NO_TOTAL,
    ),
    _any_gpu(
        "gpu/power_usage_watts", "Power draw of all of the run's GPUs together.", absent=_NO_TOTAL
    ),
    _nvml_sysfs(
        "gpu/energy_joules",
        "Energy that all of the run's GPUs used since the run opened.",
        absent=_NO_TOTAL,
        aggregate=Aggregate.TOTAL,
    ),
    _nvml_sysfs(
        "gpu/energy_estimated_joules",
        "Energy that all of the run's GPUs used since the run opened, estimated from the power "
        "draw of those without an energy counter.",
        absent="where all of the run's GPUs have an energy counter, and while one reports none",
        aggregate=Aggregate.TOTAL,
    ),
)


_nvml = partial(_metric, source="NVML", platforms=LINUX_AND_WINDOWS)

_NO_NVML = "without an NVIDIA GPU, its driver, or this counter on it"
_NO_GPM = "unless MLFLOW_SYSMETRICS_GPU_PROFILING is on, before Hopper, and in MIG mode"

_NVIDIA = (
    _nvml(
        "gpu_{index}/throttled_power_percentage",
        "Share of time in which clocks were held down to stay within the power limit.",
        absent=_NO_NVML,
        reading="gpu_{index}/throttled_power_seconds",
        scale=100.0,
        aggregate=Aggregate.RATE,
    ),
    _nvml(
        "gpu_{index}/throttled_thermal_percentage",
        "Share of time in which clocks were held down to stay within the temperature limit.",
        absent=_NO_NVML,
        reading="gpu_{index}/throttled_thermal_seconds",
        scale=100.0,
        aggregate=Aggregate.RATE,
    ),
    _nvml(
        "gpu_{index}/throttled_hardware_percentage",
        "Share of time in which the hardware cut the clocks by half or more (overheating, or an "
        "external power brake), judged by the state at the samples.",
        absent=_NO_NVML,
        reading="gpu_{index}/throttled_hardware_seconds",
        scale=100.0,
        aggregate=Aggregate.RATE,
    ),
    _nvml(
        "gpu_{index}/encoder_utilization_percentage",
        "Utilisation of the video encoder.",
        absent=_NO_NVML,
    ),
    _nvml(
        "gpu_{index}/decoder_utilization_percentage",
        "Utilisation of the video decoder.",
        absent=_NO_NVML,
    ),
    _nvml(
        "gpu_{index}/pcie_receive_megabytes_per_second",
        "Data received over PCIe: the rate over 20 ms, measured at most every 5 s.",
        absent=_NO_NVML,
    ),
    _nvml(
        "gpu_{index}/pcie_transmit_megabytes_per_second",
        "Data sent over PCIe: the rate over 20 ms, measured at most every 5 s.",
        absent=_NO_NVML,
    ),
    _nvml(
        "gpu_{index}/nvlink_receive_megabytes_per_second",
        "Data received over all NVLinks, without protocol overhead.",
        absent="without NVLink",
        reading="gpu_{index}/nvlink_receive_bytes",
        scale=BYTES_TO_MEGABYTES,
        aggregate=Aggregate.RATE,
    ),
    _nvml(
        "gpu_{index}/nvlink_transmit_megabytes_per_second",
        "Data sent over all NVLinks, without protocol overhead.",
        absent="without NVLink",
        reading="gpu_{index}/nvlink_transmit_bytes",
        scale=BYTES_TO_MEGABYTES,
        aggregate=Aggregate.RATE,
    ),
    _nvml(
        "gpu_{index}/ecc_corrected_errors",
        "Memory errors that ECC corrected since the run opened.",
        absent="where the memory has no ECC, or it is off",
        aggregate=Aggregate.TOTAL,
    ),
    _nvml(
        "gpu_{index}/ecc_uncorrected_errors",
        "Memory errors that ECC found but could not correct since the run opened.",
        absent="where the memory has no ECC, or it is off",
        aggregate=Aggregate.TOTAL,
    ),
    _nvml(
        "gpu_{index}/remapped_rows",
        "Rows of GPU memory replaced by spare ones since the run opened.",
        absent="on GPUs before Ampere, and on consumer cards",
        aggregate=Aggregate.TOTAL,
    ),
    _nvml(
        "gpu_{index}/sm_active_percentage",
        "Share of the streaming multiprocessors that were busy.",
        absent=_NO_GPM,
    ),
    _nvml(
        "gpu_{index}/sm_occupancy_percentage",
        "Active warps, as a share of the most that the multiprocessors can hold.",
        absent=_NO_GPM,
    ),
    _nvml(
        "gpu_{index}/tensor_active_percentage",
        "Share of time in which the tensor cores were busy.",
        absent=_NO_GPM,
    ),
    _nvml(
        "gpu_{index}/dram_active_percentage",
        "Bandwidth of the GPU's memory in use, as a share of the maximum.",
        absent=_NO_GPM,
    ),
    _nvml(
        "gpu_{index}/process_utilization_percentage",
        "Share of time in which a kernel of the process tree ran.",
        absent="in a container's PID namespace, in MIG mode, and on Windows",
        platforms=LINUX,
    ),
    _nvml(
        "gpu_{index}/mig_{instance}_memory_usage_megabytes",
        "Memory in use on one MIG instance.",
        absent="unless the GPU is in MIG mode",
    ),
    _nvml(
        "gpu_{index}/mig_{instance}_memory_usage_percentage",
        "Memory in use on one MIG instance, as a share of the instance's memory.",
        absent="unless the GPU is in MIG mode",
    ),
)

GPU_METRICS = _ONE_GPU + _NVIDIA + _ALL_GPUS

_tpu = partial(
    _metric, source="libtpu", absent="without a TPU in use, or without tpu-info", platforms=LINUX
)
_neuron = partial(
    _metric,
    source="neuron-monitor",
    absent="without a NeuronCore in use, or without neuron-monitor",
    platforms=LINUX,
)

ACCELERATOR_METRICS = (
    _tpu("tpu_{index}/duty_cycle_percentage", "Share of time in which the TPU chip was computing."),
    _tpu("tpu_{index}/memory_usage_megabytes", "TPU memory in use."),
    _tpu(
        "tpu_{index}/memory_usage_percentage", "TPU memory in use, as a share of the TPU's memory."
    ),
    _neuron(
        "neuron_{index}/utilization_percentage",
        "Share of time in which the NeuronCore (AWS Trainium, Inferentia) was computing.",
    ),
    _neuron(
        "neuron_{index}/memory_usage_megabytes", "Device memory that is charged to the NeuronCore."
    ),
)
