"""The NVIDIA GPUs of the run."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.inventory import Address
from mlflow_sysmetrics.accelerators.nvidia.device import NvmlDevice
from mlflow_sysmetrics.accelerators.nvidia.inventory import read_inventory
from mlflow_sysmetrics.accelerators.nvidia.mig import InstanceReadings
from mlflow_sysmetrics.accelerators.nvidia.opening import open_nvml
from mlflow_sysmetrics.accelerators.nvidia.processes import ProcessReadings
from mlflow_sysmetrics.accelerators.nvidia.profiling import ProfilingReadings
from mlflow_sysmetrics.accelerators.nvidia.readings import DeviceReadings
from mlflow_sysmetrics.accelerators.nvidia.selection import select_gpus
from mlflow_sysmetrics.accelerators.own_processes import find_own_processes
from mlflow_sysmetrics.accelerators.reasons import ONLY_ZEROS, group_names
from mlflow_sysmetrics.accelerators.totals import named_readings, totals_of
from mlflow_sysmetrics.catalog import gpu_name, metrics_of
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.log import warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_sysmetrics.accelerators.inventory import Device
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml
    from mlflow_sysmetrics.accelerators.nvidia.selection import Selection
    from mlflow_sysmetrics.accelerators.own_processes import OwnProcesses
    from mlflow_sysmetrics.host.host import Host


class Gpu:
    """One GPU: all that is read of it."""

    def __init__(
        self,
        host: Host,
        nvml: Nvml,
        device: Device,
        selection: Selection,
        own: OwnProcesses | None,
    ) -> None:
        self.index = device.index
        self.device = NvmlDevice(nvml, Address(device.index))
        self._selection = selection
        self._clock = host.clock
        self._subjects = Subjects()
        self._in_mig_mode = in_mig_mode = device.in_mig_mode
        self._readings = DeviceReadings(self.device, in_mig_mode=in_mig_mode)
        self._instances = InstanceReadings(nvml, device)
        self._units = self._instances.devices or [self.device]
        self._processes: ProcessReadings | None = None
        if own is not None:
            self._processes = ProcessReadings(self._units, own, host.clock, in_mig_mode=in_mig_mode)
        # In MIG mode it would cover all instances, so other people's work too.
        with_profiling = host.settings.gpu_profiling and not in_mig_mode
        self._profiling = ProfilingReadings(self.device) if with_profiling else None

    @property
    def is_the_runs(self) -> bool:
        """Whether the GPU, or an instance on it, counts as the run's by now."""
        return any(map(self._has, self._units))

    def _has(self, unit: NvmlDevice) -> bool:
        """Whether the run has the GPU, or this instance, by now."""
        if self._processes is None or not self._selection.only_if_used:
            return True
        if self._processes.has_used(unit):
            return True
        return self._processes.are_withheld(unit) and unit.address in self._selection.visible

    def read(self) -> dict[str, float]:
        """Readings by name after `gpu_<index>`; none as long as it is not the run's."""
        now_s = self._clock.now_s()
        readings: dict[str, float] = {}
        if self._processes is not None:
            read = partial(self._processes.read, now_s)
            readings |= self._subjects.read(f"what the run's processes use of {self.device}", read)
        if not self.is_the_runs:
            return {}
        readings |= self._readings.read(now_s)
        if self._readings.are_only_zeros:
            return {}
        readings |= self._instances.read(now_s, list(filter(self._has, self._units)))
        if self._profiling is not None:
            readings |= self._profiling.read(now_s)
        return readings

    def notes(self) -> Iterator[str]:
        """What it does not report, and why."""
        yield from self._subjects.notes()
        if self._readings.are_only_zeros:
            yield f"{self.device} {ONLY_ZEROS}"
            return
        if not any(device.answers for device in (self.device, *self._units)):
            for _, reason in islice(self._readings.why_missing(), 1):
                yield f"{self.device} reports nothing: {reason}"
            return
        if self._readings.has_no_own_memory:
            yield f"{self.device} has no memory of its own: it uses the host's"
        if self._in_mig_mode:
            yield (
                f"{self.device} is in MIG mode: it reports no utilisation, nor how busy its "
                "parts are, and power for the whole card only"
            )
        groups = (self._processes, self._readings, self._instances, self._profiling)
        missing = (
            (key, reason)
            for group in groups
            if group is not None
            for reading, reason in group.why_missing()
            for key in self._keys_of(reading)
        )
        yield from group_names(str(self.device), missing)

    def _keys_of(self, reading: str) -> list[str]:
        """Keys of the metrics that a reading feeds, after `gpu_<index>`."""
        metrics = metrics_of(gpu_name(self.index, reading))
        return [metric.key.removeprefix(f"gpu_{self.index}")[1:] for metric in metrics]

    def close(self) -> None:
        """Release what is held; may be called twice."""
        if self._profiling is not None:
            self._profiling.close()


class NvidiaCollector:
    """Readings of the run's GPUs, one by one and all together."""

    def __init__(
        self, nvml: Nvml, gpus: Sequence[Gpu], host: Host, notes: Sequence[str] = ()
    ) -> None:
        self._nvml = nvml
        self._gpus = gpus
        self._clock = host.clock
        self._notes = notes
        self._opening = Backoff()
        self._subjects = Subjects()

    def collect(self) -> dict[str, float]:
        """Readings by name, of what each GPU reports now.

        Raises:
            Unavailable: NVML had to be opened again, after a fork say, and could not be.
        """
        if not self._opening.allows(self._clock.now_s()):
            return {}
        self._ensure_open()
        answers, failures = self._answers_and_failures()
        by_gpu = {gpu: self._subjects.read(str(gpu.device), gpu.read) for gpu in self._gpus}
        answers_now, failures_now = self._answers_and_failures()
        if failures_now > failures and answers_now == answers:
            self._nvml.close()  # the driver may have been reloaded, which this session cannot see
        readings = named_readings({gpu.index: values for gpu, values in by_gpu.items()})
        return readings | totals_of([by_gpu[gpu] for gpu in self._gpus if gpu.is_the_runs])

    def notes(self) -> list[str]:
        """What each GPU does not report, and why; known after a sample."""
        failed = self._subjects.notes()
        return [*self._notes, *failed, *(note for gpu in self._gpus for note in gpu.notes())]

    def close(self) -> None:
        """Close NVML; may be called twice."""
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
        devices = [gpu.device for gpu in self._gpus]
        return sum(device.answers for device in devices), sum(device.failures for device in devices)


def open_nvidia(host: Host) -> NvidiaCollector:
    """Open the run's GPUs.

    Raises:
        Unavailable: NVML cannot be used here, or no GPU is the run's; the message says why.
    """
    own, notes = find_own_processes(host)
    nvml = open_nvml(host)
    try:
        selection = select_gpus(host, read_inventory(nvml), processes_known=own is not None)
    except BaseException:
        nvml.close()
        raise
    if not selection.only_if_used:  # else these are the right ones in any case
        for note in selection.notes:
            warn_once(note)
    gpus = [Gpu(host, nvml, device, selection, own) for device in selection.devices]
    return NvidiaCollector(nvml, gpus, host, (*selection.notes, *notes))
