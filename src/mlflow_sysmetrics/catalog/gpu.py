"""Metrics of GPUs, whoever made them, and of all of the run's GPUs together."""

from __future__ import annotations

from functools import partial

from mlflow_sysmetrics.catalog.model import LINUX, LINUX_AND_WINDOWS, Aggregate, Metric
from mlflow_sysmetrics.catalog.nvidia import NVIDIA_METRICS

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


# Rows by what reports them.
_any_gpu = partial(Metric, source="NVML, /sys (amdgpu, xe, i915), ioreg")
_nvml_sysfs = partial(Metric, source="NVML, /sys (amdgpu, xe, i915)", platforms=LINUX_AND_WINDOWS)
_nvml_amd_mac = partial(Metric, source="NVML, /sys (amdgpu), ioreg")
_nvml_amd = partial(Metric, source="NVML, /sys (amdgpu)", platforms=LINUX_AND_WINDOWS)

_NOT_REPORTED = "where the GPU or its driver does not report it"
_NO_OWN_MEMORY = "on Intel GPUs, and on those that share the host's memory (GB10, Jetson)"
_NO_PROCESSES = "in a container's PID namespace, on Intel GPUs, and under Windows' WDDM"
_NO_TOTAL = "while one of the run's GPUs does not report it"

_ONE_GPU = (
    _any_gpu(
        "gpu_{index}_utilization_percentage",
        "percentage",
        Aggregate.MEAN,
        "Share of time in which at least one kernel ran; on Intel GPUs, in which the engines "
        "were awake.",
        absent="where the GPU does not report it, as in MIG mode",
    ),
    _nvml_amd(
        "gpu_{index}/memory_controller_utilization_percentage",
        "percentage",
        Aggregate.MEAN,
        "Share of time in which GPU memory was being read or written.",
        absent=_NOT_REPORTED,
    ),
    _nvml_amd_mac(
        "gpu_{index}_memory_usage_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "GPU memory in use, by all processes; in MIG mode, on the run's instances.",
        absent=_NO_OWN_MEMORY,
    ),
    _nvml_amd_mac(
        "gpu_{index}_memory_usage_percentage",
        "percentage",
        Aggregate.MEAN,
        "GPU memory in use, as a share of the GPU's memory.",
        absent=_NO_OWN_MEMORY,
    ),
    Metric(
        "gpu_{index}/host_memory_usage_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Host memory that the GPU uses (GTT), by all processes: most of the memory of a GPU that "
        "is part of a CPU.",
        source="/sys (amdgpu)",
        absent=_NOT_REPORTED,
        platforms=LINUX,
    ),
    _any_gpu(
        "gpu_{index}_power_usage_watts",
        "watts",
        Aggregate.MEAN,
        "Power draw.",
        absent=_NOT_REPORTED,
    ),
    _nvml_sysfs(
        "gpu_{index}_power_usage_percentage",
        "percentage",
        Aggregate.MEAN,
        "Power draw, as a share of the power limit in force.",
        absent=_NOT_REPORTED,
    ),
    _nvml_sysfs(
        "gpu_{index}/power_limit_watts",
        "watts",
        Aggregate.MEAN,
        "Power limit in force: the lowest of those that are set.",
        absent=_NOT_REPORTED,
    ),
    _nvml_sysfs(
        "gpu_{index}/energy_joules",
        "joules",
        Aggregate.TOTAL,
        "Energy used since the run opened, by the GPU's own counter.",
        absent="without an energy counter, as on AMD GPUs and on NVIDIA GPUs before Volta",
    ),
    _nvml_amd(
        "gpu_{index}/energy_estimated_joules",
        "joules",
        Aggregate.TOTAL,
        "Energy used since the run opened, estimated from the power draw at the samples.",
        absent="where the GPU has an energy counter",
    ),
    _any_gpu(
        "gpu_{index}/temperature_celsius",
        "celsius",
        Aggregate.MEAN,
        "Temperature of the GPU.",
        absent=_NOT_REPORTED,
    ),
    _nvml_sysfs(
        "gpu_{index}/memory_temperature_celsius",
        "celsius",
        Aggregate.MEAN,
        "Temperature of the GPU's memory.",
        absent="where the memory has no sensor, as on most consumer cards",
    ),
    _nvml_amd_mac(
        "gpu_{index}/fan_speed_percentage",
        "percentage",
        Aggregate.MEAN,
        "Intended speed of the fan, as a share of its full speed; may exceed 100.",
        absent="without a fan of its own",
    ),
    _any_gpu(
        "gpu_{index}/sm_clock_megahertz",
        "megahertz",
        Aggregate.MEAN,
        "Clock of the processors: NVIDIA's SMs, AMD's shaders, Intel's graphics engines.",
        absent=_NOT_REPORTED,
    ),
    _nvml_amd_mac(
        "gpu_{index}/memory_clock_megahertz",
        "megahertz",
        Aggregate.MEAN,
        "Clock of the GPU memory.",
        absent=_NOT_REPORTED,
    ),
    _nvml_amd(
        "gpu_{index}/process_memory_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "GPU memory in use by the process tree.",
        absent=_NO_PROCESSES,
    ),
)

_ALL_GPUS = (
    _any_gpu(
        "gpu/utilization_percentage",
        "percentage",
        Aggregate.MEAN,
        "Mean utilisation of the run's GPUs.",
        absent=_NO_TOTAL,
    ),
    _nvml_amd_mac(
        "gpu/memory_usage_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Memory in use on all of the run's GPUs together.",
        absent=_NO_TOTAL,
    ),
    _any_gpu(
        "gpu/power_usage_watts",
        "watts",
        Aggregate.MEAN,
        "Power draw of all of the run's GPUs together.",
        absent=_NO_TOTAL,
    ),
    _nvml_sysfs(
        "gpu/energy_joules",
        "joules",
        Aggregate.TOTAL,
        "Energy that all of the run's GPUs used since the run opened.",
        absent=_NO_TOTAL,
    ),
    _nvml_sysfs(
        "gpu/energy_estimated_joules",
        "joules",
        Aggregate.TOTAL,
        "Energy that all of the run's GPUs used since the run opened, estimated from the power "
        "draw of those without an energy counter.",
        absent="where all of the run's GPUs have an energy counter, and while one reports none",
    ),
)

GPU_METRICS = _ONE_GPU + NVIDIA_METRICS + _ALL_GPUS
