"""Metrics that only NVIDIA's GPUs have: NVML reports them."""

from __future__ import annotations

from functools import partial

from mlflow_sysmetrics.catalog.model import (
    BYTES_TO_MEGABYTES,
    LINUX,
    LINUX_AND_WINDOWS,
    Aggregate,
    Metric,
)

_nvml = partial(Metric, source="NVML", platforms=LINUX_AND_WINDOWS)

_NO_NVML = "without an NVIDIA GPU, its driver, or this counter on it"
_NO_GPM = "unless MLFLOW_SYSMETRICS_GPU_PROFILING is on, before Hopper, and in MIG mode"

NVIDIA_METRICS = (
    _nvml(
        "gpu_{index}/throttled_power_percentage",
        "percentage",
        Aggregate.RATE,
        "Share of time in which clocks were held down to stay within the power limit.",
        absent=_NO_NVML,
        reading="gpu_{index}/throttled_power_seconds",
        scale=100.0,
    ),
    _nvml(
        "gpu_{index}/throttled_thermal_percentage",
        "percentage",
        Aggregate.RATE,
        "Share of time in which clocks were held down to stay within the temperature limit.",
        absent=_NO_NVML,
        reading="gpu_{index}/throttled_thermal_seconds",
        scale=100.0,
    ),
    _nvml(
        "gpu_{index}/throttled_hardware_percentage",
        "percentage",
        Aggregate.RATE,
        "Share of time in which the hardware cut the clocks by half or more (overheating, or an "
        "external power brake), judged by the state at the samples.",
        absent=_NO_NVML,
        reading="gpu_{index}/throttled_hardware_seconds",
        scale=100.0,
    ),
    _nvml(
        "gpu_{index}/encoder_utilization_percentage",
        "percentage",
        Aggregate.MEAN,
        "Utilisation of the video encoder.",
        absent=_NO_NVML,
    ),
    _nvml(
        "gpu_{index}/decoder_utilization_percentage",
        "percentage",
        Aggregate.MEAN,
        "Utilisation of the video decoder.",
        absent=_NO_NVML,
    ),
    _nvml(
        "gpu_{index}/pcie_receive_megabytes_per_second",
        "megabytes per second",
        Aggregate.MEAN,
        "Data received over PCIe: the rate over 20 ms, measured at most every 5 s.",
        absent=_NO_NVML,
    ),
    _nvml(
        "gpu_{index}/pcie_transmit_megabytes_per_second",
        "megabytes per second",
        Aggregate.MEAN,
        "Data sent over PCIe: the rate over 20 ms, measured at most every 5 s.",
        absent=_NO_NVML,
    ),
    _nvml(
        "gpu_{index}/nvlink_receive_megabytes_per_second",
        "megabytes per second",
        Aggregate.RATE,
        "Data received over all NVLinks, without protocol overhead.",
        absent="without NVLink",
        reading="gpu_{index}/nvlink_receive_bytes",
        scale=BYTES_TO_MEGABYTES,
    ),
    _nvml(
        "gpu_{index}/nvlink_transmit_megabytes_per_second",
        "megabytes per second",
        Aggregate.RATE,
        "Data sent over all NVLinks, without protocol overhead.",
        absent="without NVLink",
        reading="gpu_{index}/nvlink_transmit_bytes",
        scale=BYTES_TO_MEGABYTES,
    ),
    _nvml(
        "gpu_{index}/ecc_corrected_errors",
        "errors",
        Aggregate.TOTAL,
        "Memory errors that ECC corrected since the run opened.",
        absent="where the memory has no ECC, or it is off",
    ),
    _nvml(
        "gpu_{index}/ecc_uncorrected_errors",
        "errors",
        Aggregate.TOTAL,
        "Memory errors that ECC found but could not correct since the run opened.",
        absent="where the memory has no ECC, or it is off",
    ),
    _nvml(
        "gpu_{index}/remapped_rows",
        "rows",
        Aggregate.TOTAL,
        "Rows of GPU memory replaced by spare ones since the run opened.",
        absent="on GPUs before Ampere, and on consumer cards",
    ),
    _nvml(
        "gpu_{index}/sm_active_percentage",
        "percentage",
        Aggregate.MEAN,
        "Share of the streaming multiprocessors that were busy.",
        absent=_NO_GPM,
    ),
    _nvml(
        "gpu_{index}/sm_occupancy_percentage",
        "percentage",
        Aggregate.MEAN,
        "Active warps, as a share of the most that the multiprocessors can hold.",
        absent=_NO_GPM,
    ),
    _nvml(
        "gpu_{index}/tensor_active_percentage",
        "percentage",
        Aggregate.MEAN,
        "Share of time in which the tensor cores were busy.",
        absent=_NO_GPM,
    ),
    _nvml(
        "gpu_{index}/dram_active_percentage",
        "percentage",
        Aggregate.MEAN,
        "Bandwidth of the GPU's memory in use, as a share of the maximum.",
        absent=_NO_GPM,
    ),
    _nvml(
        "gpu_{index}/process_utilization_percentage",
        "percentage",
        Aggregate.MEAN,
        "Share of time in which a kernel of the process tree ran.",
        absent="in a container's PID namespace, in MIG mode, and on Windows",
        platforms=LINUX,
    ),
    _nvml(
        "gpu_{index}/mig_{instance}_memory_usage_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Memory in use on one MIG instance.",
        absent="unless the GPU is in MIG mode",
    ),
    _nvml(
        "gpu_{index}/mig_{instance}_memory_usage_percentage",
        "percentage",
        Aggregate.MEAN,
        "Memory in use on one MIG instance, as a share of the instance's memory.",
        absent="unless the GPU is in MIG mode",
    ),
)
