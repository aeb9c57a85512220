"""Metrics of NVIDIA GPUs, by NVML.

`COUNTERS` is the whole list: a further reading is a further row. Each call on each device is
guarded alone, so one that fails takes nothing with it but the readings made from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.notices import logger, warn_once
from mlflow_sysmetrics.sources.nvml import Call, NotSupportedError, NvmlError, open_nvml

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host import Clock, Host
    from mlflow_sysmetrics.sources.nvml import Nvml

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""How long a call that failed is left alone: each time twice as long, up to this."""


@dataclass(frozen=True)
class Counter:
    """One reading of a GPU.

    Attributes:
        reading: Its name after `gpu_<index>_`.
        calls: What NVML is asked for it; a call that several counters need is made once a tick.
        value: From what the calls return, in this order, to the reading; None where they do not
            tell it.
    """

    reading: str
    calls: tuple[Call, ...]
    value: Callable[..., float | None]


def _percentage(part: float, whole: float) -> float | None:
    return 100.0 * part / whole if whole > 0 else None


_UTILIZATION = Call("nvmlDeviceGetUtilizationRates")  # percent, over up to the last second
_MEMORY = Call("nvmlDeviceGetMemoryInfo")  # bytes; what the driver reserves counts as used
_POWER = Call("nvmlDeviceGetPowerUsage")  # milliwatts
_POWER_LIMIT = Call("nvmlDeviceGetEnforcedPowerLimit")  # milliwatts; the lowest of all limits

COUNTERS = (
    Counter("utilization_percentage", (_UTILIZATION,), lambda rates: float(rates.gpu)),
    Counter("memory_usage_megabytes", (_MEMORY,), lambda memory: memory.used / 1e6),
    Counter(
        "memory_usage_percentage", (_MEMORY,), lambda memory: _percentage(memory.used, memory.total)
    ),
    Counter("power_usage_watts", (_POWER,), lambda milliwatts: milliwatts / 1e3),
    Counter("power_usage_percentage", (_POWER, _POWER_LIMIT), _percentage),
)


class GpuCollector:
    """Readings of every GPU that the driver shows.

    Args:
        nvml: NVML, open; the collector closes it.
        clock: Time by which failed calls pause.
    """

    def __init__(self, nvml: Nvml, clock: Clock) -> None:
        self._nvml = nvml
        self._clock = clock
        self._gpus = [_Gpu(nvml, index) for index in range(nvml.device_count)]

    def collect(self) -> dict[str, float]:
        """Readings by name, of the counters that each GPU has and that answer now.

        Raises:
            Unavailable: NVML had to be opened again, after a fork say, and could not be.
        """
        self._nvml.ensure_open()
        now_s = self._clock.now_s()
        readings: dict[str, float] = {}
        for gpu in self._gpus:
            readings.update(gpu.collect(now_s))
        return readings

    def close(self) -> None:
        """Let go of NVML; may be called twice."""
        self._nvml.close()


def open_gpu(host: Host) -> GpuCollector:
    """Open the collector.

    Raises:
        Unavailable: NVML cannot be used here; the message says why.
    """
    return GpuCollector(open_nvml(host), host.clock)


class _Gpu:
    """One GPU: its guarded calls, and its readings under their full names."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        calls = dict.fromkeys(call for counter in COUNTERS for call in counter.calls)
        self._guards = {call: _Guard(nvml, call, index) for call in calls}
        self._counters = [(f"gpu_{index}_{counter.reading}", counter) for counter in COUNTERS]

    def collect(self, now_s: float) -> dict[str, float]:
        results = {call: guard.ask(now_s) for call, guard in self._guards.items()}
        readings: dict[str, float] = {}
        for name, counter in self._counters:
            arguments = [results[call] for call in counter.calls]
            if None in arguments:
                continue
            value = counter.value(*arguments)
            if value is not None:
                readings[name] = value
        return readings


class _Guard:
    """One call on one device, made as often as its failures so far let it seem worth while."""

    def __init__(self, nvml: Nvml, call: Call, device: int) -> None:
        self._nvml = nvml
        self._call = call
        self._device = device
        self._not_before_s = -math.inf
        self._pause_s = FIRST_PAUSE_S

    def ask(self, now_s: float) -> Any:  # noqa: ANN401 - an int or a struct of pynvml
        """What the call returns; None where it failed or still pauses."""
        if now_s < self._not_before_s:
            return None
        try:
            result = self._nvml.call(self._call, self._device)
        except NotSupportedError as error:
            self._not_before_s = math.inf
            logger.debug("GPU %d: %s: %s", self._device, self._call.function, error)
        except NvmlError as error:
            self._not_before_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._warn(error)
        else:
            self._pause_s = FIRST_PAUSE_S
            return result
        return None

    def _warn(self, error: NvmlError) -> None:
        # Without the function: a GPU that is lost fails in all of them, and is one thing to say.
        warn_once(f"GPU {self._device}: {error}; what fails is tried again at growing intervals")
        logger.debug("GPU %d: %s: %s", self._device, self._call.function, error)
