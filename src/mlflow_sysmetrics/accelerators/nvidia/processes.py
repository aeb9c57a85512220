"""What the run's own processes use of one NVIDIA GPU."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.nvidia.nvml import Call, NothingFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_sysmetrics.accelerators.nvidia.device import NvmlDevice
    from mlflow_sysmetrics.accelerators.own_processes import OwnProcesses
    from mlflow_sysmetrics.host.clock import Clock

_PROCESSES = Call("nvmlDeviceGetComputeRunningProcesses")
_MPS_CLIENTS = Call("nvmlDeviceGetMPSComputeRunningProcesses")  # they have a list of their own
_UTILIZATION = "nvmlDeviceGetProcessUtilization"

_SAMPLE_PERIOD_US = 1_000_000
"""The longest time between two samples of a driver; it is a sixth of that on some GPUs."""


class ProcessReadings:
    """Memory and utilisation of the process tree on one GPU.

    Args:
        units: The GPU, or in MIG mode its instances: without privileges only instances list the
            processes that run on them.
        own: Knows which processes are the tree's.
        clock: Its wall time is what the driver stamps its samples with.
        in_mig_mode: Whether the GPU is cut into instances, which have no utilisation.
    """

    def __init__(
        self,
        units: Sequence[NvmlDevice],
        own: OwnProcesses,
        clock: Clock,
        *,
        in_mig_mode: bool,
    ) -> None:
        self._units = units
        self._own = own
        self._clock = clock
        self._has_utilization = not in_mig_mode
        self._used: set[NvmlDevice] = set()
        self._seen_us = clock.wall_ms() * 1000

    def read(self, now_s: float) -> dict[str, float]:
        """Readings by name after `gpu_<index>`; a tree that does not use the GPU uses 0 of it."""
        readings: dict[str, float] = {}
        used_bytes: list[int | None] = []
        for own in [self._own_bytes(unit, now_s) for unit in self._units]:
            if own is None:  # a sum without it would be too small
                return readings
            used_bytes += own
        known = [size for size in used_bytes if size is not None]
        if len(known) == len(used_bytes):  # Windows' own memory management hides sizes
            readings["process_memory_megabytes"] = sum(known) / 1e6
        utilization = self._utilization(now_s) if self._has_utilization else None
        if utilization is not None:
            readings["process_utilization_percentage"] = utilization
        return readings

    def has_used(self, unit: NvmlDevice) -> bool:
        """Whether some process of the tree has been seen on it."""
        return unit in self._used

    def are_withheld(self, unit: NvmlDevice) -> bool:
        """Whether it does not report which processes run on it."""
        return unit.withholds(_PROCESSES)

    def why_missing(self) -> Iterator[tuple[str, str]]:
        """Readings that the last sample lacks, and why."""
        for unit in self._units:
            if reason := unit.why_not(_PROCESSES):
                yield "process_memory_megabytes", reason
                break
        if reason := self._units[0].why_not(_UTILIZATION):
            yield "process_utilization_percentage", reason

    def _own_bytes(self, unit: NvmlDevice, now_s: float) -> list[int | None] | None:
        """Memory of each process of the tree on it; None where it does not report it."""
        processes = unit.ask(_PROCESSES, now_s)
        if processes is None:
            return None
        clients = unit.ask(_MPS_CLIENTS, now_s) or ()
        by_pid = {process.pid: process.usedGpuMemory for process in (*processes, *clients)}
        own = [used_bytes for pid, used_bytes in by_pid.items() if self._own.has(pid)]
        if own:
            self._used.add(unit)
        return own

    def _utilization(self, now_s: float) -> float | None:
        """Sum over the tree of each process's mean since the last sample, in percent."""
        samples = self._units[0].attempt(_UTILIZATION, self._new_samples, now_s)
        if samples is None:
            return None
        by_pid: dict[int, list[int]] = {}
        for sample in samples:
            by_pid.setdefault(sample.pid, []).append(sample.smUtil)
        own = [fmean(values) for pid, values in by_pid.items() if self._own.has(pid)]
        return min(100.0, sum(own))

    def _new_samples(self) -> list[Any] | None:
        """The samples of all processes since the last one; None where none can be there yet.

        A process that ran no kernel has none.
        """
        now_us = self._clock.wall_ms() * 1000
        since_us = self._seen_us = min(self._seen_us, now_us)  # the clock may be set back
        device = self._units[0]
        try:
            samples = device.nvml.call(Call(_UTILIZATION, (since_us,)), device.address)
        except NothingFoundError:
            samples = []
        # The driver may also return old samples, and impossible ones.
        new = [sample for sample in samples if sample.timeStamp > since_us and sample.smUtil <= 100]  # noqa: PLR2004 - percent
        if new:
            self._seen_us = min(now_us, max(sample.timeStamp for sample in new))
        elif now_us - since_us < _SAMPLE_PERIOD_US:
            return None
        else:
            self._seen_us = now_us - _SAMPLE_PERIOD_US  # a sample may come that late
        return new
