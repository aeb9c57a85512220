"""The MIG instances of one NVIDIA GPU: each has memory of its own, none reports its utilisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.accelerators.nvidia.device import GuardedDevice
from mlflow_sysmetrics.accelerators.nvidia.nvml import Call

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mlflow_sysmetrics.accelerators.inventory import Device
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml

_MEMORY = Call("nvmlDeviceGetMemoryInfo")


class InstanceReadings:
    """Memory of the run's MIG instances on one GPU, each alone and all together.

    Args:
        nvml: NVML, open.
        device: The GPU.

    Attributes:
        parts: Its instances.
    """

    def __init__(self, nvml: Nvml, device: Device) -> None:
        self.parts = [
            GuardedDevice(nvml, Address(device.index, instance.number))
            for instance in device.mig_instances
        ]
        self._memories = [instance.memory for instance in device.mig_instances]

    def read(self, now_s: float, parts: Collection[GuardedDevice]) -> dict[str, float]:
        """Readings by name after `gpu_<index>`.

        The GPU's own memory would be that of others, too; in its place is that of these instances.

        Args:
            now_s: The time.
            parts: Those to read.
        """
        readings: dict[str, float] = {}
        told: dict[Any, Any] = {}
        asked = [each for each in zip(self.parts, self._memories, strict=True) if each[0] in parts]
        for part, memory_of in asked:
            memory = part.ask(_MEMORY, now_s)
            if memory is not None and memory.total:
                readings |= _of(f"mig_{part.address.instance}_", memory.used, memory.total)
                told[memory_of] = memory
        if told and told.keys() == {memory_of for _, memory_of in asked}:
            used, total = zip(*((each.used, each.total) for each in told.values()), strict=True)
            readings |= _of("", sum(used), sum(total))
        return readings

    def why_missing(self) -> Iterator[tuple[str, str]]:
        """Each reading that the last look did not have, and why."""
        for part in self.parts:
            if reason := part.why_not(_MEMORY):
                for reading in _of(f"mig_{part.address.instance}_", 0, 1):
                    yield reading, reason


def _of(prefix: str, used: int, total: int) -> dict[str, float]:
    return {
        f"{prefix}memory_usage_megabytes": used / 1e6,
        f"{prefix}memory_usage_percentage": 100.0 * used / total,
    }
