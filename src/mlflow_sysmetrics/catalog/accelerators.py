"""Metrics of accelerators that are no GPUs: Google's TPUs and AWS's NeuronCores."""

from __future__ import annotations

from functools import partial

from mlflow_sysmetrics.catalog.model import LINUX, Aggregate, Metric

_tpu = partial(
    Metric, source="libtpu", absent="without a TPU in use, or without tpu-info", platforms=LINUX
)
_neuron = partial(
    Metric,
    source="neuron-monitor",
    absent="without a NeuronCore in use, or without neuron-monitor",
    platforms=LINUX,
)

ACCELERATOR_METRICS = (
    _tpu(
        "tpu_{index}/duty_cycle_percentage",
        "percentage",
        Aggregate.MEAN,
        "Share of time in which the TPU chip was computing.",
    ),
    _tpu(
        "tpu_{index}/memory_usage_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "TPU memory in use.",
    ),
    _tpu(
        "tpu_{index}/memory_usage_percentage",
        "percentage",
        Aggregate.MEAN,
        "TPU memory in use, as a share of the TPU's memory.",
    ),
    _neuron(
        "neuron_{index}/utilization_percentage",
        "percentage",
        Aggregate.MEAN,
        "Share of time in which the NeuronCore (AWS Trainium, Inferentia) was computing.",
    ),
    _neuron(
        "neuron_{index}/memory_usage_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Device memory that is charged to the NeuronCore.",
    ),
)
