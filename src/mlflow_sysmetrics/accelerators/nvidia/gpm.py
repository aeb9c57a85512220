"""NVML's GPM: what the parts of a GPU did between two samples of it (Hopper and later)."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.nvidia.nvml import Call, NotSupportedError, NvmlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.accelerators.inventory import Address
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml

_REFRESHED_EVERY_S = 0.1
"""Between samples closer to each other NVML reports nothing of use."""


class GpmSamples:
    """The samples of one GPU: each reading is over the time since the one before.

    Args:
        nvml: NVML, open.
        device: The GPU.
        metrics: Numbers of the GPM metrics to read, `NVML_GPM_METRIC_…`.
    """

    def __init__(self, nvml: Nvml, device: Address, metrics: Sequence[int]) -> None:
        self._nvml = nvml
        self._device = device
        self._metrics = metrics
        self._session = 0  # of NVML, in which the samples below were made
        self._samples: list[Any] = []  # two, that are taken in turn
        self._taken = 0
        self._taken_s = -math.inf

    def read(self, now_s: float) -> list[float | None]:
        """Value of each metric, None where it is not reported.

        Empty at the first sample, and too soon after another.

        Raises:
            NotSupportedError: The GPU has no GPM.
            NvmlError: It cannot be read now.
        """
        if self._session != self._nvml.sessions:
            self._begin()
        if now_s - self._taken_s <= _REFRESHED_EVERY_S:
            return []
        newer, older = self._samples[self._taken % 2], self._samples[(self._taken + 1) % 2]
        self._nvml.call(Call("nvmlGpmSampleGet", (newer,)), self._device)
        self._taken += 1
        self._taken_s = now_s
        return self._metrics_between(older, newer) if self._taken > 1 else []

    def close(self) -> None:
        """Let go of the samples; may be called twice."""
        samples, self._samples = self._samples, []
        session, self._session = self._session, 0
        if session != self._nvml.sessions:
            return  # they went with the session that they were made in
        with contextlib.suppress(NvmlError):  # then there is nothing to let go
            for sample in samples:
                self._nvml.ask("nvmlGpmSampleFree", sample)

    def _begin(self) -> None:
        support = self._nvml.call(Call("nvmlGpmQueryDeviceSupport"), self._device)
        if not support.isSupportedDevice:
            raise NotSupportedError("the GPU has no GPM")
        self._samples = [self._nvml.ask("nvmlGpmSampleAlloc") for _ in range(2)]
        self._taken = 0
        self._taken_s = -math.inf
        self._session = self._nvml.sessions

    def _metrics_between(self, older: Any, newer: Any) -> list[float | None]:  # noqa: ANN401 - opaque
        pynvml = self._nvml.pynvml
        question = pynvml.c_nvmlGpmMetricsGet_t()
        question.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        question.numMetrics = len(self._metrics)
        question.sample1, question.sample2 = older, newer
        for slot, metric in zip(question.metrics, self._metrics, strict=False):
            slot.metricId = metric
        self._nvml.ask("nvmlGpmMetricsGet", question)
        answers = question.metrics[: len(self._metrics)]
        return [None if answer.nvmlReturn else answer.value for answer in answers]
