"""Whether an NVIDIA GPU that NVML lists reports anything, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.accelerators.nvidia.nvml import (
    Call,
    Code,
    NoDataError,
    NotSupportedError,
    NvmlError,
)
from mlflow_sysmetrics.accelerators.reasons import ONLY_ZEROS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.accelerators.inventory import Device
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml

UTILIZATION = Call("nvmlDeviceGetUtilizationRates")  # percent, over up to the last second
MEMORY = Call("nvmlDeviceGetMemoryInfo")  # bytes; what the driver reserves counts as used
POWER = Call("nvmlDeviceGetPowerUsage")  # milliwatts
POWER_LIMIT = Call("nvmlDeviceGetEnforcedPowerLimit", lasts_s=60)  # milliwatts; lowest of all
TEMPERATURE = Call("nvmlDeviceGetTemperature", (0,))  # NVML_TEMPERATURE_GPU; degrees Celsius
TEMPERATURE_FROM_CUDA_14 = Call("nvmlDeviceGetTemperatureV", (0,))
SM_CLOCK = Call("nvmlDeviceGetClockInfo", (1,))  # NVML_CLOCK_SM; megahertz
MEMORY_CLOCK = Call("nvmlDeviceGetClockInfo", (2,))  # NVML_CLOCK_MEM; megahertz

_NEVER_ZERO = (MEMORY, TEMPERATURE, TEMPERATURE_FROM_CUDA_14, POWER_LIMIT, SM_CLOCK, MEMORY_CLOCK)
_CALLS = (*_NEVER_ZERO, UTILIZATION, POWER)

_ON_JETSON = "; on a Jetson, tegrastats shows its figures"

_WHAT_TO_DO: dict[int | None, str] = {
    Code.NO_PERMISSION: "; this user needs access to the GPU's device file (/dev/nvidia<n>)",
    Code.UNKNOWN: "; dmesg may show why, and a container that lost its GPU has to be restarted",
}

WITHOUT_INSTANCE = (
    "is in MIG mode and gives this process no instance, so no memory and no utilisation; make one "
    "(nvidia-smi mig -cgi), or ask the container runtime or scheduler for one"
)


def are_only_zeros(answers: Mapping[Any, Any]) -> bool:
    """Whether the answers of a GPU are no readings.

    An idle GPU has a utilisation of 0, but no GPU has a memory, a temperature, a power limit
    and clocks of 0.
    """
    figures = [_figure(answers[call]) for call in _NEVER_ZERO if answers.get(call) is not None]
    if not figures or any(figures):
        return False
    utilization, power = answers.get(UTILIZATION), answers.get(POWER)
    return len(figures) > 1 or not (power or (utilization and utilization.gpu))


def why_silent(nvml: Nvml, device: Device) -> str | None:
    """Why a GPU reports nothing, as what follows its name in a sentence; None where it reports."""
    answers: dict[Call, Any] = {}
    failures: list[NvmlError] = []
    of_gpu = [(call, Address(device.index)) for call in _CALLS]
    of_instances = [(MEMORY, Address(device.index, one.number)) for one in device.mig_instances]
    for call, address in of_gpu + of_instances:
        try:
            answer = nvml.call(call, address)
        except NvmlError as failure:
            failures.append(failure)
        else:
            if call in _NEVER_ZERO and _figure(answer):
                return None
            answers[call] = answer
    if answers:
        return ONLY_ZEROS if are_only_zeros(answers) else None
    if device.in_mig_mode and not device.mig_instances:
        return WITHOUT_INSTANCE
    worst = min(failures, key=_order)
    advice = _ON_JETSON if "nvgpu" in device.name else _WHAT_TO_DO.get(worst.code, "")
    return f"reports nothing ({worst}){advice}"


def _order(failure: NvmlError) -> int:
    """The most informative failure comes first."""
    if isinstance(failure, NotSupportedError):
        return 2
    return int(isinstance(failure, NoDataError))


def _figure(answer: Any) -> Any:  # noqa: ANN401 - an int, or a struct of pynvml
    return answer.total if hasattr(answer, "total") else answer
