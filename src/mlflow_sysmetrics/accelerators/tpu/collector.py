"""Metrics of Google's TPUs, by what libtpu reports."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.contract import Vendor, probe_by_opening
from mlflow_sysmetrics.accelerators.tpu.libtpu import (
    DUTY_CYCLE,
    MEMORY_TOTAL,
    MEMORY_USED,
    open_libtpu,
)
from mlflow_sysmetrics.host.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mlflow_sysmetrics.accelerators.tpu.libtpu import Libtpu
    from mlflow_sysmetrics.host.host import Host


class TpuCollector:
    """Readings of the TPUs that processes use."""

    def __init__(self, libtpu: Libtpu) -> None:
        self._libtpu = libtpu
        self._absence: str | None = None

    def collect(self) -> dict[str, float]:
        """Percentages and megabytes, by the number that `tpu-info` shows.

        Raises:
            Unavailable: No process uses a TPU now.
        """
        try:
            used_bytes = self._libtpu.read(MEMORY_USED)
        except Unavailable as reason:
            self._absence = str(reason)
            raise
        self._absence = None
        readings = {
            f"tpu_{device}/memory_usage_megabytes": used / 1e6
            for device, used in used_bytes.items()
        }
        with suppress(Unavailable):
            for device, size in self._libtpu.read(MEMORY_TOTAL).items():
                if 0 < size >= used_bytes.get(device, math.inf):
                    share = used_bytes[device] / size
                    readings[f"tpu_{device}/memory_usage_percentage"] = 100 * share
                elif not used_bytes.get(device):  # 0 of 0 is no reading
                    readings.pop(f"tpu_{device}/memory_usage_megabytes", None)
        with suppress(Unavailable):
            duty = self._libtpu.read(DUTY_CYCLE)
            for device, percent in by_device(duty, used_bytes).items():
                if percent <= 100:  # noqa: PLR2004 - percent
                    readings[f"tpu_{device}/duty_cycle_percentage"] = percent
        return readings

    def notes(self) -> list[str]:
        """Why the last sample has no readings."""
        if self._absence is None:
            return []
        return [f"no TPU metrics now: {self._absence}; they come while a process uses the TPU"]

    def close(self) -> None:
        """Nothing is held."""


def open_tpu(host: Host) -> TpuCollector:
    """Open the collector.

    Raises:
        Unavailable: There is no TPU, or no tpu-info to ask for its metrics.
    """
    return TpuCollector(open_libtpu(host))


def by_device(by_chip: Mapping[int, float], devices: Collection[int]) -> dict[int, float]:
    """Values of chips, given to their devices: a chip of TPU v2, v3 and 7x has two."""
    if not by_chip or len(devices) % len(by_chip):
        return {}
    devices_per_chip = len(devices) // len(by_chip)
    values = [by_chip[chip] for chip in sorted(by_chip)]
    return {
        device: values[position // devices_per_chip]
        for position, device in enumerate(sorted(devices))
    }


TPU = Vendor(
    "tpu", "libtpu", may_block=True, probe=partial(probe_by_opening, open_tpu), open=open_tpu
)
