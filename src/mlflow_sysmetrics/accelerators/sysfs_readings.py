"""Metrics of GPUs that kernel drivers report in files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.drm import read_gauges, read_number
from mlflow_sysmetrics.accelerators.reasons import group_names
from mlflow_sysmetrics.accelerators.sysfs import why_missing, why_silent
from mlflow_sysmetrics.accelerators.totals import named_readings, totals_of
from mlflow_sysmetrics.collectors.counters import Integral, RisingTotal, Slope
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.host.errors import Transient, Unavailable

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from pathlib import Path

    from mlflow_sysmetrics.accelerators.own_processes import OwnProcesses
    from mlflow_sysmetrics.accelerators.sysfs import SysfsGpu, SysfsVendor
    from mlflow_sysmetrics.host.clock import Clock


class SysfsGpuCollector:
    """Readings of the GPUs of one vendor, each alone and all together."""

    def __init__(
        self, gpus: Sequence[Gpu], *, makes_totals: bool, notes: Sequence[str] = ()
    ) -> None:
        self._gpus = gpus
        self._makes_totals = makes_totals
        self._notes = notes
        self._subjects = Subjects()

    def collect(self) -> dict[str, float]:
        """Readings by name, of what each GPU reports now."""
        by_index = {
            gpu.index: self._subjects.read(f"GPU {gpu.index}", gpu.read) for gpu in self._gpus
        }
        readings = named_readings(by_index)
        if not self._makes_totals:
            return readings
        return readings | totals_of([by_index[gpu.index] for gpu in self._gpus if gpu.is_the_runs])

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        of_gpus = [note for gpu in self._gpus for note in (*gpu.notes(), *gpu.subjects.notes())]
        return [*self._notes, *self._subjects.notes(), *of_gpus]

    def close(self) -> None:
        """Nothing is held."""


class Gpu:
    """One GPU: its readings by their names after `gpu_<index>`.

    What the driver does not report follows from what it does: shares of memory and power,
    utilisation from how long the engines slept, power from energy or else energy from power.

    Args:
        vendor: Its vendor.
        gpu: Which files it has.
        own: Knows which processes are the run's; None where that is not known.
        clock: Its time.
        only_if_used: Whether it is the run's only once one of its processes had memory there.

    Attributes:
        index: Its number in metrics' keys.
        is_the_runs: Whether it counts as the run's by now.
    """

    def __init__(
        self,
        vendor: SysfsVendor,
        gpu: SysfsGpu,
        own: OwnProcesses | None,
        clock: Clock,
        *,
        only_if_used: bool,
    ) -> None:
        self.index = gpu.index
        self.is_the_runs = not (only_if_used and gpu.memory_by_pid)
        self.subjects = Subjects()
        self._vendor = vendor
        self._clock = clock
        self._gpu = gpu
        self._own = own
        self._slopes: dict[Hashable, Slope] = {}
        self._joules = RisingTotal()
        self._estimated_joules = Integral()

    def read(self) -> dict[str, float]:
        """What can be read now; nothing of a GPU that is powered down, nor is it woken up.

        Raises:
            Unavailable: The GPU is no longer there.
        """
        if not os.path.exists(self._gpu.card.directory):  # noqa: PTH110 - Path.exists may raise
            self._slopes.clear()
            raise Unavailable(f"{self._gpu.card.directory} is no longer there")
        if self._gpu.card.is_asleep():
            self._slopes.clear()
            self._estimated_joules.update(0.0, self._clock.now_s())
            return {}
        own_memory = self.subjects.read(
            f"what the run's processes have of GPU {self.index}", self._own_memory
        )
        if not self.is_the_runs:
            return {}
        readings = read_gauges(self._gpu.gauges) | own_memory
        if readings.get("temperature_celsius") == 0:  # as where there is no sensor
            if self._gpu.has_zero_memory:  # the driver only stands in for one
                return {}
            del readings["temperature_celsius"]
        if self._gpu.has_zero_memory:
            readings.pop("memory_usage_megabytes", None)
        self._add_memory_share(readings)
        self._add_utilization(readings)
        self._add_power(readings)
        self._add_energy(readings)
        return readings

    def notes(self) -> Iterator[str]:
        """What it does not report, and why."""
        if reason := why_silent(self._gpu):
            yield f"GPU {self.index} {reason}"
            return
        missing = why_missing(self._gpu, self._vendor)
        yield from group_names(f"GPU {self.index}", missing.items())

    def _own_memory(self) -> dict[str, float]:
        """What the process tree has of its memory; a tree that does not use it has 0."""
        if self._own is None or self._gpu.memory_by_pid is None:
            return {}
        used = self._gpu.memory_by_pid()
        own_bytes = sum(used_bytes for pid, used_bytes in used.items() if self._own.has(pid))
        self.is_the_runs = self.is_the_runs or own_bytes > 0
        return {"process_memory_megabytes": own_bytes / 1e6}

    def _add_memory_share(self, readings: dict[str, float]) -> None:
        used_megabytes = readings.get("memory_usage_megabytes")
        if used_megabytes is None or not self._gpu.memory_bytes:
            return
        if used_megabytes * 1e6 > self._gpu.memory_bytes:
            del readings["memory_usage_megabytes"]  # one of the two was misread
        else:
            readings["memory_usage_percentage"] = 100e6 * used_megabytes / self._gpu.memory_bytes

    def _add_utilization(self, readings: dict[str, float]) -> None:
        """From the share of time in which engines slept, the mean over the tiles."""
        shares = [self._share_asleep(path) for path in self._gpu.idle_counters]
        known = [share for share in shares if share is not None]
        if known and len(known) == len(shares):
            readings["utilization_percentage"] = 100 * (1 - sum(known) / len(known))

    def _share_asleep(self, counter: Path) -> float | None:
        try:
            slept_ms = read_number(counter)
        except Transient:
            return None
        share = None if slept_ms is None else self._slope(counter, slept_ms / 1e3)
        return None if share is None else min(1.0, share)

    def _add_power(self, readings: dict[str, float]) -> None:
        joules = readings.get("energy_joules")
        if joules is not None and "power_usage_watts" not in self._gpu.gauges:
            watts = self._slope("energy", joules)
            if watts is not None:
                readings["power_usage_watts"] = watts
        limit_watts = readings.get("power_limit_watts")
        if limit_watts == 0:  # no limit is set
            del readings["power_limit_watts"]
        elif limit_watts is not None and "power_usage_watts" in readings:
            readings["power_usage_percentage"] = 100 * readings["power_usage_watts"] / limit_watts

    def _add_energy(self, readings: dict[str, float]) -> None:
        now_s = self._clock.now_s()
        if "energy_joules" in readings:
            readings["energy_joules"] = self._joules.update(readings["energy_joules"], now_s)
        elif "energy_joules" not in self._gpu.gauges and "power_usage_watts" in readings:
            watts = readings["power_usage_watts"]
            readings["energy_estimated_joules"] = self._estimated_joules.update(watts, now_s)

    def _slope(self, counter: Hashable, value: float) -> float | None:
        return self._slopes.setdefault(counter, Slope()).update(value, self._clock.now_s())
