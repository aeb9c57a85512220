"""The NVIDIA GPUs of the run."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.accelerators.nvidia.device import GuardedDevice
from mlflow_sysmetrics.accelerators.nvidia.instances import InstanceReadings
from mlflow_sysmetrics.accelerators.nvidia.processes import ProcessReadings
from mlflow_sysmetrics.accelerators.nvidia.profiling import ProfilingReadings
from mlflow_sysmetrics.accelerators.nvidia.readings import CounterReadings
from mlflow_sysmetrics.accelerators.own_processes import open_own_processes
from mlflow_sysmetrics.accelerators.reasons import ONLY_ZEROS
from mlflow_sysmetrics.accelerators.run_gpus import open_run_gpus
from mlflow_sysmetrics.accelerators.totals import totals_of
from mlflow_sysmetrics.catalog import gpu_name, metrics_of
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_sysmetrics.accelerators.inventory import Device
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml
    from mlflow_sysmetrics.accelerators.own_processes import OwnProcesses
    from mlflow_sysmetrics.accelerators.run_gpus import RunGpus
    from mlflow_sysmetrics.host.clock import Clock
    from mlflow_sysmetrics.host.host import Host


class Gpu:
    """One GPU: all that is read of it.

    Args:
        found: NVML, open, and which GPUs are the run's.
        device: The GPU.
        own: Knows which processes are the run's; None where that is not known.
        clock: Its time.
        profiling: Whether to read how busy its parts are.
    """

    def __init__(
        self,
        found: RunGpus,
        device: Device,
        own: OwnProcesses | None,
        clock: Clock,
        *,
        profiling: bool,
    ) -> None:
        self.index = device.index
        self.guarded = GuardedDevice(found.nvml, Address(device.index))
        self._found = found
        self._clock = clock
        self._mode = mode = device.in_mig_mode
        self._subjects = Subjects()
        self._counters = CounterReadings(self.guarded, in_mig_mode=mode)
        self._instances = InstanceReadings(found.nvml, device)
        self._parts = self._instances.parts or [self.guarded]
        self._processes = (
            None if own is None else ProcessReadings(self._parts, own, clock, in_mig_mode=mode)
        )
        # They would be those of all instances together, so of other people's work.
        self._profiling = ProfilingReadings(self.guarded) if profiling and not mode else None

    @property
    def is_the_runs(self) -> bool:
        """Whether it, or a part of it, counts as the run's by now."""
        return any(map(self._has, self._parts))

    def _has(self, part: GuardedDevice) -> bool:
        """Whether the run has this part by now."""
        if self._processes is None or not self._found.only_if_used:
            return True
        if self._processes.has_used(part):
            return True
        return self._processes.are_withheld(part) and part.address in self._found.visible

    def read(self) -> dict[str, float]:
        """Readings by name after `gpu_<index>`; none as long as it is not the run's."""
        now_s = self._clock.now_s()
        readings: dict[str, float] = {}
        if self._processes is not None:
            read = partial(self._processes.read, now_s)
            readings |= self._subjects.read(f"what the run's processes use of {self.guarded}", read)
        if not self.is_the_runs:
            return {}
        readings |= self._counters.read(now_s)
        if self._counters.are_only_zeros:
            return {}
        readings |= self._instances.read(now_s, list(filter(self._has, self._parts)))
        if self._profiling is not None:
            readings |= self._profiling.read(now_s)
        return readings

    def notes(self) -> Iterator[str]:
        """What it does not report, and why."""
        yield from self._subjects.notes()
        if self._counters.are_only_zeros:
            yield f"{self.guarded} {ONLY_ZEROS}"
            return
        if not any(device.answers for device in (self.guarded, *self._parts)):
            for _, reason in islice(self._counters.why_missing(), 1):
                yield f"{self.guarded} reports nothing: {reason}"
            return
        if self._counters.has_no_own_memory:
            yield f"{self.guarded} has no memory of its own: it uses the host's"
        if self._mode:
            yield (
                f"{self.guarded} is in MIG mode: it reports no utilisation, nor how busy its "
                "parts are, and power for the whole card only"
            )
        missing: dict[str, list[str]] = {}
        for each in (self._processes, self._counters, self._instances, self._profiling):
            for reading, reason in each.why_missing() if each is not None else ():
                missing.setdefault(reason, []).extend(self._keys_of(reading))
        for reason, keys in missing.items():
            yield f"{self.guarded} does not report {', '.join(keys)}: {reason}"

    def _keys_of(self, reading: str) -> list[str]:
        """Keys of the metrics that a reading feeds, after `gpu_<index>`."""
        metrics = metrics_of(gpu_name(self.index, reading))
        return [metric.key.removeprefix(f"gpu_{self.index}")[1:] for metric in metrics]

    def close(self) -> None:
        """Let go of what is held; may be called twice."""
        if self._profiling is not None:
            self._profiling.close()


class NvidiaCollector:
    """Readings of the run's GPUs, each alone and all together.

    Args:
        nvml: NVML, open; the collector closes it.
        gpus: The GPUs.
        clock: Its time.
        notes: What is good to know about which GPUs these are.
    """

    def __init__(
        self, nvml: Nvml, gpus: Sequence[Gpu], clock: Clock, notes: Sequence[str] = ()
    ) -> None:
        self._nvml = nvml
        self._gpus = gpus
        self._clock = clock
        self._notes = notes
        self._opening = Backoff()
        self._subjects = Subjects()

    def collect(self) -> dict[str, float]:
        """Readings by name, of the counters that each GPU has and that answer now.

        Raises:
            Unavailable: NVML had to be opened again, after a fork say, and could not be.
        """
        if not self._opening.allows(self._clock.now_s()):
            return {}
        self._ensure_open()
        answers, failures = self._answers_and_failures()
        by_gpu = {gpu: self._subjects.read(str(gpu.guarded), gpu.read) for gpu in self._gpus}
        answers_now, failures_now = self._answers_and_failures()
        if failures_now > failures and answers_now == answers:
            self._nvml.close()  # perhaps the driver was loaded anew, and NVML knows it not yet
        readings = {
            gpu_name(gpu.index, name): value
            for gpu, values in by_gpu.items()
            for name, value in values.items()
        }
        return readings | totals_of([by_gpu[gpu] for gpu in self._gpus if gpu.is_the_runs])

    def notes(self) -> list[str]:
        """What it does not report of which GPU, and why; known once it has been asked."""
        failed = self._subjects.notes()
        return [*self._notes, *failed, *(note for gpu in self._gpus for note in gpu.notes())]

    def close(self) -> None:
        """Let go of NVML; may be called twice."""
        for gpu in self._gpus:
            gpu.close()
        self._nvml.close()

    def _ensure_open(self) -> None:
        try:
            self._nvml.ensure_open()
        except Unavailable as reason:
            self._opening.fail(reason, self._clock.now_s())
            raise
        self._opening.succeed()

    def _answers_and_failures(self) -> tuple[int, int]:
        devices = [gpu.guarded for gpu in self._gpus]
        return sum(each.answers for each in devices), sum(each.failures for each in devices)


def open_nvidia(host: Host) -> NvidiaCollector:
    """Open the run's GPUs, as MLFLOW_SYSMETRICS_GPUS says which they are.

    Raises:
        Unavailable: NVML cannot be used here, or no GPU is the run's; the message says why.
    """
    settings = Settings.from_env(host.environ)
    notes = []
    own: OwnProcesses | None = None
    try:
        own = open_own_processes(host)
    except Transient:
        raise
    except Unavailable as reason:
        notes.append(f"what the run's own processes use of a GPU is not known: {reason}")
    found = open_run_gpus(host, settings.gpus, processes_are_told=own is not None)
    if not found.only_if_used:  # else these are the right ones in any case
        for note in found.notes:
            warn_once(note)
    gpus = [
        Gpu(found, device, own, host.clock, profiling=settings.gpu_profiling)
        for device in found.devices
    ]
    return NvidiaCollector(found.nvml, gpus, host.clock, (*found.notes, *notes))
