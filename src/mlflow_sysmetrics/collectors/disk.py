"""Space on the root file system, and what the host's disks transfer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.counters import KeyedTotal
from mlflow_sysmetrics.host import Unavailable
from mlflow_sysmetrics.notices import logger
from mlflow_sysmetrics.sources.diskstats import DiskBytes, is_physical_disk, read_diskstats

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host import Host


class DiskCollector:
    """Space gauges as MLflow reads them, and counters over whole disks."""

    def __init__(self, transferred: Callable[[], dict[str, DiskBytes]] | None) -> None:
        self._transferred = transferred
        self._read = KeyedTotal()
        self._written = KeyedTotal()

    def collect(self) -> dict[str, float]:
        """Megabytes and a percentage for space, bytes for the counters."""
        usage = psutil.disk_usage(os.sep)
        readings: dict[str, float] = {
            "disk_usage_percentage": usage.percent,
            "disk_usage_megabytes": usage.used / 1e6,
            "disk_available_megabytes": usage.free / 1e6,
        }
        if self._transferred is not None and (disks := self._transferred()):
            readings["disk_read_bytes"] = self._read.update(
                {name: disk.read for name, disk in disks.items()}
            )
            readings["disk_write_bytes"] = self._written.update(
                {name: disk.written for name, disk in disks.items()}
            )
        return readings

    def close(self) -> None:
        """Nothing is held."""


def open_disk(host: Host) -> DiskCollector:
    """Space exists on every host; the counters may not."""
    try:
        return DiskCollector(_transfer_source(host))
    except Unavailable as reason:
        logger.debug("mlflow-sysmetrics: no disk rates: %s", reason)
        return DiskCollector(None)


def _transfer_source(host: Host) -> Callable[[], dict[str, DiskBytes]]:
    if host.system != "Linux":
        if not psutil.disk_io_counters(perdisk=True):
            raise Unavailable("the system shows no disk counters")
        return _psutil_transfers
    physical: dict[str, bool] = {}

    def transfers() -> dict[str, DiskBytes]:
        disks = read_diskstats(host)
        for name in disks.keys() - physical.keys():
            physical[name] = is_physical_disk(host, name)
        return {name: disk for name, disk in disks.items() if physical[name]}

    if not transfers():
        raise Unavailable("/proc/diskstats lists no physical disk")
    return transfers


def _psutil_transfers() -> dict[str, DiskBytes]:
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False)
    return {name: DiskBytes(each.read_bytes, each.write_bytes) for name, each in counters.items()}
