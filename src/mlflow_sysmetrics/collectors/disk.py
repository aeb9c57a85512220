"""Space on the root and the working file system, and what the host's disks transfer."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.collector import Collector
from mlflow_sysmetrics.collectors.counters import KeyedTotal
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.sources.diskstats import DiskBytes, is_physical_disk, read_diskstats

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host import Host


class DiskCollector(Collector):
    """Space gauges as MLflow reads them, and counters over whole disks.

    Args:
        working_directory: Where its file system is not the root's; None where it is.
        transferred: Gives the counters by disk; empty where there are none.
    """

    def __init__(
        self,
        working_directory: str | None,
        transferred: Callable[[], dict[str, DiskBytes]],
    ) -> None:
        self._working_directory = working_directory
        self._transferred = transferred
        self._subjects = Subjects()
        self._read = KeyedTotal()
        self._written = KeyedTotal()

    def collect(self) -> dict[str, float]:
        """Megabytes and a percentage for space, bytes for the counters."""
        read = self._subjects.read
        readings = read("space on the root file system", partial(_space, "disk", os.sep))
        if (path := self._working_directory) is not None:
            readings |= read(f"space in {path}", partial(_space, "working_disk", path))
        return readings | read("what disks transfer", self._transfers)

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        return self._subjects.notes()

    def _transfers(self) -> dict[str, float]:
        disks = self._transferred()
        if not disks:
            return {}
        return {
            "disk_read_bytes": self._read.update({name: disk.read for name, disk in disks.items()}),
            "disk_write_bytes": self._written.update(
                {name: disk.written for name, disk in disks.items()}
            ),
        }


def _space(subject: str, path: str) -> dict[str, float]:
    usage = psutil.disk_usage(path)
    return {
        f"{subject}_usage_percentage": usage.percent,
        f"{subject}_usage_megabytes": usage.used / 1e6,
        f"{subject}_available_megabytes": usage.free / 1e6,
    }


def open_disk(host: Host) -> DiskCollector:
    """Space exists on every host; the counters may not."""
    return DiskCollector(_working_directory_apart(), _transfer_source(host))


def _working_directory_apart() -> str | None:
    """The working directory, unless the root file system holds it or it has been deleted."""
    try:
        directory = Path.cwd()
        is_apart = directory.stat().st_dev != Path(os.sep).stat().st_dev
    except OSError:
        return None
    return str(directory) if is_apart else None


def _transfer_source(host: Host) -> Callable[[], dict[str, DiskBytes]]:
    if host.system != "Linux":
        return _psutil_transfers
    physical: dict[str, bool] = {}

    def transfers() -> dict[str, DiskBytes]:
        disks = read_diskstats(host)
        for name in disks.keys() - physical.keys():
            physical[name] = is_physical_disk(host, name)
        return {name: disk for name, disk in disks.items() if physical[name]}

    return transfers


def _psutil_transfers() -> dict[str, DiskBytes]:
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    return {name: DiskBytes(each.read_bytes, each.write_bytes) for name, each in counters.items()}
