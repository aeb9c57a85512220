"""The vendors: one line each."""

from __future__ import annotations

from mlflow_sysmetrics.accelerators.apple.collector import APPLE
from mlflow_sysmetrics.accelerators.neuron.collector import NEURON
from mlflow_sysmetrics.accelerators.nvidia.vendor import NVIDIA
from mlflow_sysmetrics.accelerators.sysfs_collector import AMD, INTEL
from mlflow_sysmetrics.accelerators.tpu.collector import TPU

VENDORS = (NVIDIA, AMD, INTEL, APPLE, TPU, NEURON)
"""In the order in which they are asked and shown."""
