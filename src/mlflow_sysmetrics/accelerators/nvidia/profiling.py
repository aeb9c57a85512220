"""How busy the parts of one NVIDIA GPU are: asked only where the user wants it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.nvidia.gpm import GpmSamples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_sysmetrics.accelerators.nvidia.device import GuardedDevice

_METRICS = {
    "sm_active_percentage": 2,  # NVML_GPM_METRIC_SM_UTIL
    "sm_occupancy_percentage": 3,  # NVML_GPM_METRIC_SM_OCCUPANCY
    "tensor_active_percentage": 5,  # NVML_GPM_METRIC_ANY_TENSOR_UTIL
    "dram_active_percentage": 10,  # NVML_GPM_METRIC_DRAM_BW_UTIL
}


class ProfilingReadings:
    """Readings over the time between two samples, from Hopper on.

    Args:
        device: The GPU.
    """

    def __init__(self, device: GuardedDevice) -> None:
        self._device = device
        self._samples = GpmSamples(device.nvml, device.address, list(_METRICS.values()))

    def read(self, now_s: float) -> dict[str, float]:
        """Readings by name after `gpu_<index>`; none at the first sample."""
        values = self._device.attempt(GpmSamples, lambda: self._samples.read(now_s), now_s)
        return {
            reading: value
            for reading, value in zip(_METRICS, values or (), strict=False)
            if value is not None and math.isfinite(value)
        }

    def why_missing(self) -> Iterator[tuple[str, str]]:
        """Each reading that the last look did not have, and why."""
        if reason := self._device.why_not(GpmSamples):
            for reading in _METRICS:
                yield reading, reason

    def close(self) -> None:
        """Let go of the samples; may be called twice."""
        self._samples.close()
