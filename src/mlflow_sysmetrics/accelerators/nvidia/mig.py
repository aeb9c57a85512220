"""The MIG instances of one NVIDIA GPU: each has memory of its own, none reports its utilisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.accelerators.nvidia.device import NvmlDevice
from mlflow_sysmetrics.accelerators.nvidia.silence import MEMORY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mlflow_sysmetrics.accelerators.inventory import Device
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml


class InstanceReadings:
    """Memory of the run's MIG instances on one GPU, one by one and all together.

    Attributes:
        devices: Its instances.
    """

    def __init__(self, nvml: Nvml, device: Device) -> None:
        self._memory_of = {
            NvmlDevice(nvml, Address(device.index, instance.number)): instance.memory
            for instance in device.mig_instances
        }
        self.devices = list(self._memory_of)

    def read(self, now_s: float, selected: Collection[NvmlDevice]) -> dict[str, float]:
        """Readings of the selected instances, by name after `gpu_<index>`.

        Their sum takes the place of the GPU's own memory, which is other people's, too. Instances
        that share their memory count once.
        """
        readings: dict[str, float] = {}
        memories: dict[object, Any] = {}
        asked = [device for device in self.devices if device in selected]
        for device in asked:
            memory = device.ask(MEMORY, now_s)
            if memory is not None and memory.total:
                readings |= _of(f"mig_{device.address.instance}_", memory.used, memory.total)
                memories[self._memory_of[device]] = memory
        if memories and memories.keys() == {self._memory_of[device] for device in asked}:
            known = memories.values()
            readings |= _of("", sum(one.used for one in known), sum(one.total for one in known))
        return readings

    def why_missing(self) -> Iterator[tuple[str, str]]:
        """Readings that the last sample lacks, and why."""
        for device in self.devices:
            if reason := device.why_not(MEMORY):
                for reading in _of(f"mig_{device.address.instance}_", 0, 1):
                    yield reading, reason


def _of(prefix: str, used: int, total: int) -> dict[str, float]:
    return {
        f"{prefix}memory_usage_megabytes": used / 1e6,
        f"{prefix}memory_usage_percentage": 100.0 * used / total,
    }
