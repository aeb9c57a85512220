"""A stand-in for the module `pynvml`: its functions and real error codes over described GPUs.

A GPU is described by what each NVML function returns for it; `error(code)` as an answer is
raised. The rest (constants, error classes, structs) is the real module's.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pynvml

if TYPE_CHECKING:
    from collections.abc import Iterable

ERROR_CODES = {
    name.removeprefix("NVML_ERROR_"): code
    for name, code in vars(pynvml).items()
    if name.startswith("NVML_ERROR_")
}


def error(name: str) -> Exception:
    """The exception of an error code: `error("GPU_IS_LOST")`."""
    failure: Exception = pynvml.NVMLError(ERROR_CODES[name])
    return failure


def utilization(gpu: int, memory: int = 0) -> pynvml.c_nvmlUtilization_t:
    return pynvml.c_nvmlUtilization_t(gpu=gpu, memory=memory)


def memory(used: int, total: int) -> pynvml.c_nvmlMemory_t:
    return pynvml.c_nvmlMemory_t(used=used, total=total, free=total - used)


@dataclass(eq=False)
class FakeGpu:
    """One GPU: what each NVML function answers for it; it serves as its own handle."""

    answers: dict[str, Any]

    def fails(self, error_name: str, functions: Iterable[str] = ()) -> None:
        """Let these functions, or all, fail from now on."""
        for function in functions or list(self.answers):
            self.answers[function] = error(error_name)


def h100(index: int = 0) -> FakeGpu:
    """A data-centre card that has every counter, under some load."""
    return FakeGpu(
        {
            "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
            "nvmlDeviceGetUUID": f"GPU-00000000-0000-0000-0000-{index:012}",
            "nvmlDeviceGetUtilizationRates": utilization(gpu=90 + index),
            "nvmlDeviceGetMemoryInfo": memory(used=20_000_000_000, total=80_000_000_000),
            "nvmlDeviceGetPowerUsage": 350_000,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetTemperature": 61,
        }
    )


def consumer_card() -> FakeGpu:
    """A card whose driver has neither utilisation nor a power limit for it."""
    gpu = h100()
    gpu.answers |= {
        "nvmlDeviceGetName": "NVIDIA GeForce GT 1030",
        "nvmlDeviceGetMemoryInfo": memory(used=500_000_000, total=2_000_000_000),
        "nvmlDeviceGetPowerUsage": 12_500,
        "nvmlDeviceGetUtilizationRates": error("NOT_SUPPORTED"),
        "nvmlDeviceGetEnforcedPowerLimit": error("NOT_SUPPORTED"),
    }
    return gpu


class FakeNvml(ModuleType):
    """The module, as a process sees it whose driver has these GPUs.

    Attributes:
        gpus: By index.
        answers: What the functions that concern no GPU return or raise.
        users: By process id, `nvmlInit` less `nvmlShutdown`.
        calls: Every call so far, as (function, index of the GPU or None).
    """

    def __init__(self, *gpus: FakeGpu) -> None:
        super().__init__("pynvml")
        self.gpus = gpus
        self.answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetCount": len(gpus),
            "nvmlSystemGetDriverVersion": "560.35.03",
            "nvmlSystemGetCudaDriverVersion_v2": 12060,
        }
        self.users: Counter[int] = Counter()
        self.calls: list[tuple[str, int | None]] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever pynvml has there
        real = getattr(pynvml, name)
        if not name.startswith("nvml") or not callable(real):
            return real
        return partial(self._called, name)

    def asked(self, function: str, gpu: int | None = None) -> int:
        """How often a function was called."""
        return self.calls.count((function, gpu))

    def _called(self, function: str, *arguments: Any) -> Any:  # noqa: ANN401 - as pynvml
        gpu = arguments[0] if arguments and isinstance(arguments[0], FakeGpu) else None
        self.calls.append((function, self.gpus.index(gpu) if gpu else None))
        if function == "nvmlInit":
            return self._init()
        if not self.users[os.getpid()]:
            raise error("UNINITIALIZED")
        if function == "nvmlShutdown":
            self.users[os.getpid()] -= 1
        if function == "nvmlDeviceGetHandleByIndex":
            return self._handle(*arguments)
        answers = gpu.answers if gpu else self.answers
        return _told(answers.get(function, error("FUNCTION_NOT_FOUND")))

    def _init(self) -> None:
        _told(self.answers["nvmlInit"])
        self.users[os.getpid()] += 1

    def _handle(self, index: int) -> FakeGpu:
        gpu = self.gpus[index]
        _told(gpu.answers.get("nvmlDeviceGetHandleByIndex"))
        return gpu


def _told(answer: Any) -> Any:  # noqa: ANN401 - as pynvml
    if isinstance(answer, Exception):
        raise answer
    return answer
