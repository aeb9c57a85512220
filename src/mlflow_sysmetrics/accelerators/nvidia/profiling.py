"""How busy the parts of an NVIDIA GPU are, by NVML's GPM; read only where the user wants it."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.nvidia.nvml import Call, NotSupportedError, NvmlError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_sysmetrics.accelerators.nvidia.device import NvmlDevice

_METRICS = {
    "sm_active_percentage": 2,  # NVML_GPM_METRIC_SM_UTIL
    "sm_occupancy_percentage": 3,  # NVML_GPM_METRIC_SM_OCCUPANCY
    "tensor_active_percentage": 5,  # NVML_GPM_METRIC_ANY_TENSOR_UTIL
    "dram_active_percentage": 10,  # NVML_GPM_METRIC_DRAM_BW_UTIL
}

_REFRESHED_EVERY_S = 0.1
"""Between samples closer to each other NVML reports nothing of use."""


class ProfilingReadings:
    """Readings over the time between two samples, from Hopper on."""

    def __init__(self, device: NvmlDevice) -> None:
        self._device = device
        self._nvml = device.nvml
        self._session = 0  # of NVML, in which the samples below were allocated
        self._samples: list[Any] = []  # two, taken in turn
        self._taken = 0
        self._taken_s = -math.inf

    def read(self, now_s: float) -> dict[str, float]:
        """Readings by name after `gpu_<index>`; none at the first sample, or too soon after one."""
        values = self._device.attempt(ProfilingReadings, lambda: self._sample(now_s), now_s)
        return {
            reading: value
            for reading, value in zip(_METRICS, values or (), strict=False)
            if value is not None and math.isfinite(value)
        }

    def why_missing(self) -> Iterator[tuple[str, str]]:
        """Readings that the last sample lacks, and why."""
        if reason := self._device.why_not(ProfilingReadings):
            for reading in _METRICS:
                yield reading, reason

    def close(self) -> None:
        """Free the samples; may be called twice."""
        samples, self._samples = self._samples, []
        session, self._session = self._session, 0
        if session != self._nvml.sessions:
            return  # they went with the session that they were allocated in
        with contextlib.suppress(NvmlError):  # then there is nothing to free
            for sample in samples:
                self._nvml.ask("nvmlGpmSampleFree", sample)

    def _sample(self, now_s: float) -> list[float | None]:
        if self._session != self._nvml.sessions:
            self._begin()
        if now_s - self._taken_s <= _REFRESHED_EVERY_S:
            return []
        newer, older = self._samples[self._taken % 2], self._samples[(self._taken + 1) % 2]
        self._nvml.call(Call("nvmlGpmSampleGet", (newer,)), self._device.address)
        self._taken += 1
        self._taken_s = now_s
        return self._metrics_between(older, newer) if self._taken > 1 else []

    def _begin(self) -> None:
        support = self._nvml.call(Call("nvmlGpmQueryDeviceSupport"), self._device.address)
        if not support.isSupportedDevice:
            raise NotSupportedError("the GPU has no GPM")
        self._samples = [self._nvml.ask("nvmlGpmSampleAlloc") for _ in range(2)]
        self._taken = 0
        self._taken_s = -math.inf
        self._session = self._nvml.sessions

    def _metrics_between(self, older: Any, newer: Any) -> list[float | None]:  # noqa: ANN401 - opaque
        pynvml = self._nvml.pynvml
        query = pynvml.c_nvmlGpmMetricsGet_t()
        query.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        query.numMetrics = len(_METRICS)
        query.sample1, query.sample2 = older, newer
        for slot, metric in zip(query.metrics, _METRICS.values(), strict=False):
            slot.metricId = metric
        self._nvml.ask("nvmlGpmMetricsGet", query)
        answers = query.metrics[: len(_METRICS)]
        return [None if answer.nvmlReturn else answer.value for answer in answers]
