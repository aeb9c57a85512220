"""What the run's own processes use of one NVIDIA GPU."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.nvidia.nvml import Call, NothingFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_sysmetrics.accelerators.nvidia.device import GuardedDevice
    from mlflow_sysmetrics.accelerators.own_processes import OwnProcesses
    from mlflow_sysmetrics.host.clock import Clock

# Each with its name in drivers before R510; the clients of MPS are in a list of their own.
_PROCESSES = (
    Call("nvmlDeviceGetComputeRunningProcesses"),
    Call("nvmlDeviceGetComputeRunningProcesses_v2"),
)
_MPS_CLIENTS = (
    Call("nvmlDeviceGetMPSComputeRunningProcesses"),
    Call("nvmlDeviceGetMPSComputeRunningProcesses_v2"),
)
_UTILIZATION = "nvmlDeviceGetProcessUtilization"

_SAMPLE_PERIOD_US = 1_000_000
"""The longest time between two samples of a driver; it is a sixth of that on some GPUs."""


class ProcessReadings:
    """Memory and utilisation of the process tree on one GPU.

    Args:
        parts: The GPU, or of one in MIG mode the instances: without privileges only they tell
            which processes run on them.
        own: Knows which processes are the tree's.
        clock: Its wall time is what the driver stamps its samples with.
        in_mig_mode: Whether the GPU is cut into instances, which have no utilisation.
    """

    def __init__(
        self,
        parts: Sequence[GuardedDevice],
        own: OwnProcesses,
        clock: Clock,
        *,
        in_mig_mode: bool,
    ) -> None:
        self._parts = parts
        self._own = own
        self._clock = clock
        self._tells_utilization = not in_mig_mode
        self._used: set[GuardedDevice] = set()
        self._seen_us = clock.wall_ms() * 1000

    def read(self, now_s: float) -> dict[str, float]:
        """Readings by name after `gpu_<index>`; a tree that does not use the GPU uses 0 of it."""
        readings: dict[str, float] = {}
        lists = [self._own_bytes(part, now_s) for part in self._parts]
        told = [each for each in lists if each is not None]
        if len(told) < len(lists):  # without one of its parts a sum would be too small
            return readings
        used_bytes = [each for own in told for each in own if each is not None]
        if len(used_bytes) == sum(map(len, told)):  # not so under Windows' own memory management
            readings["process_memory_megabytes"] = sum(used_bytes) / 1e6
        utilization = self._utilization(now_s) if self._tells_utilization else None
        if utilization is not None:
            readings["process_utilization_percentage"] = utilization
        return readings

    def has_used(self, part: GuardedDevice) -> bool:
        """Whether some process of the tree has been seen on it."""
        return part in self._used

    def are_withheld(self, part: GuardedDevice) -> bool:
        """Whether it does not report which processes run on it."""
        return part.withholds(_in_force(part, _PROCESSES))

    def why_missing(self) -> Iterator[tuple[str, str]]:
        """Each reading that the last look did not have, and why."""
        for part in self._parts:
            if reason := part.why_not(_in_force(part, _PROCESSES)):
                yield "process_memory_megabytes", reason
                break
        if reason := self._parts[0].why_not(_UTILIZATION):
            yield "process_utilization_percentage", reason

    def _own_bytes(self, part: GuardedDevice, now_s: float) -> list[int | None] | None:
        """What each process of the tree uses of it; None where it does not report it."""
        processes = _ask(part, _PROCESSES, now_s)
        if processes is None:
            return None
        clients = _ask(part, _MPS_CLIENTS, now_s) or ()
        by_pid = {each.pid: each.usedGpuMemory for each in (*processes, *clients)}
        own = [used_bytes for pid, used_bytes in by_pid.items() if self._own.has(pid)]
        if own:
            self._used.add(part)
        return own

    def _utilization(self, now_s: float) -> float | None:
        """Sum over the tree of each process's mean since the last sample, in percent."""
        samples = self._parts[0].attempt(_UTILIZATION, self._ask_utilization, now_s)
        if samples is None:
            return None
        by_pid: dict[int, list[int]] = {}
        for sample in samples:
            by_pid.setdefault(sample.pid, []).append(sample.smUtil)
        own = [fmean(values) for pid, values in by_pid.items() if self._own.has(pid)]
        return min(100.0, sum(own))

    def _ask_utilization(self) -> list[Any] | None:
        """The samples of all processes since the last one; None where none can be there yet.

        A process that ran no kernel has none.
        """
        now_us = self._clock.wall_ms() * 1000
        since_us = self._seen_us = min(self._seen_us, now_us)  # the clock may be set back
        device = self._parts[0]
        try:
            samples = device.nvml.call(Call(_UTILIZATION, (since_us,)), device.address)
        except NothingFoundError:
            samples = []
        # Old samples, and such as never were, come along at times.
        new = [each for each in samples if each.timeStamp > since_us and each.smUtil <= 100]  # noqa: PLR2004 - percent
        if new:
            self._seen_us = min(now_us, max(each.timeStamp for each in new))
        elif now_us - since_us < _SAMPLE_PERIOD_US:
            return None
        else:
            self._seen_us = now_us - _SAMPLE_PERIOD_US  # a sample may come that late
        return new


def _in_force(part: GuardedDevice, calls: tuple[Call, Call]) -> Call:
    newer, older = calls
    return older if part.has_given_up(newer) else newer


def _ask(part: GuardedDevice, calls: tuple[Call, Call], now_s: float) -> list[Any] | None:
    newer, older = calls
    answer: list[Any] | None = part.ask(newer, now_s)
    return part.ask(older, now_s) if part.has_given_up(newer) else answer
