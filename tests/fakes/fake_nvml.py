"""A stand-in for the module `pynvml`: its functions, signatures, structs and error codes.

A GPU is described in JSON, below `tests/data/nvml`: what each function returns for it, where an
error code's name (`NOT_SUPPORTED`) stands for a failure; the values of its fields; its MIG
instances; after how many calls it is lost; which functions take how long. Constants, error
classes and structs are the real module's, and a call that the real function would not take fails.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache, partial, update_wrapper
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pynvml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DESCRIPTIONS = Path(__file__).parents[1] / "data/nvml"

ERROR_CODES = {
    name.removeprefix("NVML_ERROR_"): code
    for name, code in vars(pynvml).items()
    if name.startswith("NVML_ERROR_")
}


NO_TEXT = "NO_TEXT"
"""Beside the codes: text that cannot be decoded, which pynvml does not turn into an error code."""


def error(name: str) -> Exception:
    """The exception of an error code: `error("GPU_IS_LOST")`."""
    if name == NO_TEXT:
        return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    failure: Exception = pynvml.NVMLError(ERROR_CODES[name])
    return failure


def utilization(gpu: int, memory: int = 0) -> pynvml.c_nvmlUtilization_t:
    return pynvml.c_nvmlUtilization_t(gpu=gpu, memory=memory)


def memory(used: int, total: int, free: int | None = None) -> pynvml.c_nvmlMemory_t:
    free = total - used if free is None else free
    return pynvml.c_nvmlMemory_t(used=used, total=total, free=free)


def process(pid: int, used_bytes: int | None) -> Any:  # noqa: ANN401 - as pynvml
    return pynvml.nvmlFriendlyObject({"pid": pid, "usedGpuMemory": used_bytes})


def utilization_sample(pid: int, sm: int, time_us: int) -> pynvml.c_nvmlProcessUtilizationSample_t:
    return pynvml.c_nvmlProcessUtilizationSample_t(pid=pid, smUtil=sm, timeStamp=time_us)


def _processes(told: list[dict[str, Any]]) -> list[Any]:
    return [process(**each) for each in told]


_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "nvmlDeviceGetUtilizationRates": lambda told: utilization(**told),
    "nvmlDeviceGetMemoryInfo": lambda told: memory(**told),
    "nvmlDeviceGetPciInfo": lambda told: pynvml.nvmlPciInfo_t(busId=told.encode()),
    "nvmlDeviceGetComputeRunningProcesses": _processes,
    "nvmlDeviceGetMPSComputeRunningProcesses": _processes,
    "nvmlDeviceGetCudaComputeCapability": tuple,
    "nvmlGpmQueryDeviceSupport": lambda told: pynvml.c_nvmlGpmSupport_t(isSupportedDevice=told),
}


def _answer(function: str, told: Any) -> Any:  # noqa: ANN401 - as JSON has it, and as pynvml
    if isinstance(told, str) and told in ERROR_CODES:
        return error(told)
    return _FROM_JSON.get(function, lambda plain: plain)(told)


@dataclass(eq=False)
class FakeGpu:
    """One GPU or MIG instance; it serves as its own handle.

    Attributes:
        answers: What each function returns for it, or an exception; `function(1)` is for a call
            with that argument only.
        fields: Value of each field, or an error code's name; `138@5` is of scope 5.
        gpm: Value of each GPM metric, by number.
        instances: Its MIG instances.
        lost_after_calls: After so many calls it is lost; None if never.
        slow_s: How long functions take.
        called: How often it was called.
        uuid: By which it is found.
    """

    answers: dict[str, Any]
    fields: dict[str, int | str] = field(default_factory=dict)
    gpm: dict[str, float] = field(default_factory=dict)
    instances: list[FakeGpu] = field(default_factory=list)
    lost_after_calls: int | None = None
    slow_s: dict[str, float] = field(default_factory=dict)
    called: int = 0
    uuid: Any = None

    def __post_init__(self) -> None:
        self.uuid = self.answers["nvmlDeviceGetUUID"]

    def fails(self, error_name: str, functions: Iterable[str] = ()) -> None:
        """Let these functions, or all, fail from now on."""
        for function in functions or [*self.answers, *_OF_THE_DEVICE]:
            self.answers[function] = error(error_name)

    def recovers(self, whole: FakeGpu) -> None:
        """Answer as another one does."""
        self.answers = dict(whole.answers)

    def answer(self, function: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401 - as pynvml
        """What a call returns; raises what it fails with."""
        self.called += 1
        if self.lost_after_calls is not None and self.called > self.lost_after_calls:
            raise error("GPU_IS_LOST")
        exact = f"{function}({','.join(map(str, arguments))})"
        missing = None if function in _OF_THE_DEVICE else error("FUNCTION_NOT_FOUND")
        return _told(self.answers.get(exact, self.answers.get(function, missing)))


_OF_THE_DEVICE = (
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetFieldValues",
    "nvmlGpmSampleGet",
)
"""Functions that the fake answers by itself unless the GPU has an answer for them."""


@cache
def _signature(function: str) -> inspect.Signature:
    return inspect.signature(getattr(pynvml, function))


@cache
def _description(name: str) -> Any:  # noqa: ANN401 - JSON
    told = json.loads((DESCRIPTIONS / f"{name}.json").read_text())
    base = _description(told["like"]) if "like" in told else {}
    merged = {key: {**base.get(key, {}), **told.get(key, {})} for key in ("calls", "fields")}
    return {**base, **told, **merged}


def load_gpu(name: str, **answers: object) -> FakeGpu:
    """A GPU as it is described in `tests/data/nvml/<name>.json`, but for some answers."""
    return _gpu_of(_description(name), answers)


def _gpu_of(told: dict[str, Any], answers: dict[str, Any]) -> FakeGpu:
    return FakeGpu(
        {key: _answer(key, value) for key, value in told["calls"].items()} | answers,
        dict(told.get("fields", {})),
        dict(told.get("gpm", {})),
        [_gpu_of(each, {}) for each in told.get("instances", ())],
        told.get("lost_after_calls"),
        dict(told.get("slow_s", {})),
    )


def h100(index: int = 0) -> FakeGpu:
    """A data-centre card under some load, one of several."""
    return load_gpu(
        "h100",
        nvmlDeviceGetUUID=f"GPU-{index:08x}-0000-0000-0000-{index:012x}",
        nvmlDeviceGetPciInfo=pynvml.nvmlPciInfo_t(busId=f"00000000:{27 + index:02X}:00.0".encode()),
        nvmlDeviceGetUtilizationRates=utilization(gpu=90 + index, memory=35),
    )


def consumer_card() -> FakeGpu:
    """A card that lacks half of the counters."""
    return load_gpu("gt1030")


class FakeNvml(ModuleType):
    """The module, as a process sees it whose driver has these GPUs.

    Attributes:
        gpus: By index.
        answers: What the functions that concern no GPU return or raise.
        users: By process id, `nvmlInit` less `nvmlShutdown`.
        calls: Every call so far, as (function, index of the GPU or None).
        gpm_samples: By address, each GPM sample that is held, and the GPU that it was taken of.
        sleep: How a slow function takes its time.
    """

    def __init__(self, *gpus: FakeGpu) -> None:
        super().__init__("pynvml")
        self.gpus = list(gpus)
        self.answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlSystemGetDriverVersion": "560.35.03",
            "nvmlSystemGetCudaDriverVersion_v2": 12060,
        }
        self.users: Counter[int] = Counter()
        self.calls: list[tuple[str, int | None]] = []
        self.gpm_samples: dict[int, FakeGpu | None] = {}
        self.sleep: Callable[[float], object] = time.sleep
        self._buffers: list[Any] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever pynvml has there
        real = getattr(pynvml, name)
        if not name.startswith("nvml") or not inspect.isfunction(real):
            return real
        called = partial(self._called, name)
        if _is_unversioned(real):
            return pynvml.throwOnVersionMismatch(update_wrapper(called, real))
        return called

    def asked(self, function: str, gpu: int | None = None) -> int:
        """How often a function was called."""
        return self.calls.count((function, gpu))

    def _called(self, function: str, *arguments: Any) -> Any:  # noqa: ANN401 - as pynvml
        _signature(function).bind(*arguments)
        gpu = next((each for each in arguments if isinstance(each, FakeGpu)), None)
        self.calls.append((function, self._index_of(gpu)))
        if function == "nvmlInit":
            return self._init()
        if not self.users[os.getpid()]:
            raise error("UNINITIALIZED")
        if gpu is not None and function in gpu.slow_s:
            self.sleep(gpu.slow_s[function])
        special = getattr(self, f"_{function}", None)
        if special is not None:
            return special(*arguments)
        if gpu is not None:
            return gpu.answer(function, arguments[1:])
        return _told(self.answers.get(function, error("FUNCTION_NOT_FOUND")))

    def _index_of(self, gpu: FakeGpu | None) -> int | None:
        for index, each in enumerate(self.gpus):
            if gpu is each or gpu in each.instances:
                return index
        return None

    def _init(self) -> None:
        _told(self.answers["nvmlInit"])
        self.users[os.getpid()] += 1

    def _nvmlShutdown(self) -> None:  # noqa: N802 - as NVML
        self.users[os.getpid()] -= 1
        _told(self.answers["nvmlShutdown"])

    def _nvmlDeviceGetCount(self) -> int:  # noqa: N802 - as NVML
        count: int = _told(self.answers.get("nvmlDeviceGetCount", len(self.gpus)))
        return count

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802 - as NVML
        if index >= len(self.gpus):
            raise error("INVALID_ARGUMENT")
        self.gpus[index].answer("nvmlDeviceGetHandleByIndex", (index,))
        return self.gpus[index]

    def _nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:  # noqa: N802 - as NVML
        for gpu in self.gpus:
            for part in (gpu, *gpu.instances):
                if part.uuid == uuid:
                    part.answer("nvmlDeviceGetHandleByUUID", (uuid,))
                    return part
        raise error("NOT_FOUND")

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, number: int) -> FakeGpu:  # noqa: N802 - as NVML
        gpu.answer("nvmlDeviceGetMigDeviceHandleByIndex", (number,))
        if number >= len(gpu.instances):
            raise error("NOT_FOUND")
        return gpu.instances[number]

    def _nvmlDeviceGetFieldValues(self, gpu: FakeGpu, asked: list[tuple[int, int]]) -> Any:  # noqa: ANN401, N802 - as NVML
        gpu.answer("nvmlDeviceGetFieldValues", ())
        values = (pynvml.c_nvmlFieldValue_t * len(asked))()
        for value, (number, scope) in zip(values, asked, strict=True):
            value.fieldId, value.scopeId = number, scope
            told = gpu.fields.get(f"{number}@{scope}" if scope else str(number), "INVALID_ARGUMENT")
            if isinstance(told, str):
                value.nvmlReturn = ERROR_CODES[told]
            else:
                value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
                value.value.ullVal = told
        return values

    def _nvmlDeviceGetProcessUtilization(self, gpu: FakeGpu, since_us: int) -> list[Any]:  # noqa: N802 - as NVML
        told = gpu.answer("nvmlDeviceGetProcessUtilization", ())
        samples = [each for each in told if each.timeStamp > since_us]
        if not samples:
            raise error("NOT_FOUND")
        return samples

    def _nvmlGpmSampleAlloc(self) -> Any:  # noqa: ANN401, N802 - as NVML
        _told(self.answers.get("nvmlGpmSampleAlloc"))
        buffer = ctypes.create_string_buffer(16)
        self._buffers.append(buffer)
        sample = ctypes.cast(buffer, pynvml.c_nvmlGpmSample_t)
        self.gpm_samples[_address(sample)] = None
        return sample

    def _nvmlGpmSampleFree(self, sample: Any) -> None:  # noqa: ANN401, N802 - as NVML
        del self.gpm_samples[_address(sample)]
        _told(self.answers.get("nvmlGpmSampleFree"))

    def _nvmlGpmSampleGet(self, gpu: FakeGpu, sample: Any) -> Any:  # noqa: ANN401, N802 - as NVML
        gpu.answer("nvmlGpmSampleGet", ())
        assert _address(sample) in self.gpm_samples
        self.gpm_samples[_address(sample)] = gpu
        return sample

    def _nvmlGpmMetricsGet(self, question: Any) -> Any:  # noqa: ANN401, N802 - as NVML
        _told(self.answers.get("nvmlGpmMetricsGet"))
        assert question.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        older, newer = (
            self.gpm_samples[_address(each)] for each in (question.sample1, question.sample2)
        )
        assert older is newer is not None
        for slot in question.metrics[: question.numMetrics]:
            told = newer.gpm.get(str(slot.metricId))
            slot.nvmlReturn = ERROR_CODES["NOT_SUPPORTED"] if told is None else 0
            slot.value = told or 0.0
        return question


def _is_unversioned(function: Any) -> bool:  # noqa: ANN401 - a function of pynvml's
    """Whether pynvml wraps it, so that it raises something else where the driver lacks it."""
    return function.__code__ is _MISMATCH


_MISMATCH = pynvml.throwOnVersionMismatch(len).__code__


def _address(sample: Any) -> int:  # noqa: ANN401 - a pointer
    return ctypes.cast(sample, ctypes.c_void_p).value or 0


def _told(answer: Any) -> Any:  # noqa: ANN401 - as pynvml
    if isinstance(answer, Exception):
        raise answer
    return answer
