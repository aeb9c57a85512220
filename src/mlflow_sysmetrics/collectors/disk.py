"""Space on the root and the working file system, and what the host's disks transfer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.collectors.counters import KeyedTotal
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.host.file_helper import NoAnswerError, helper_of
from mlflow_sysmetrics.host.mounts import device_of, mount_of
from mlflow_sysmetrics.log import logger, warn_once
from mlflow_sysmetrics.sources.disk_space import read_space
from mlflow_sysmetrics.sources.diskstats import DiskBytes, is_physical_disk, parse_diskstats
from mlflow_sysmetrics.sources.kernel_file import KernelFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlflow_sysmetrics.host.host import Host
    from mlflow_sysmetrics.host.mounts import Mount


_ANSWER_S = 0.4
"""How long a file system that may hang is waited for, within what a sample waits for this one."""

_SAID_AFTER_S = 2.0
"""How long it has to be silent for a word; a helper process takes a moment to start, too."""


_READINGS = ("usage_percentage", "usage_megabytes", "available_megabytes")


class DiskCollector(Collector):
    """Space gauges as MLflow reads them, and counters over whole disks.

    Args:
        spaces: The file systems.
        transferred: Gives the counters by disk; empty where there are none.
        close: Lets go of what it reads.

    Attributes:
        may_block: Whether asking it may take long: not on file systems of this machine.
    """

    def __init__(
        self,
        spaces: Sequence[_Space],
        transferred: Callable[[], dict[str, DiskBytes]],
        close: Callable[[], None],
    ) -> None:
        self.may_block = any(space.may_block for space in spaces)
        self._spaces = spaces
        self._transferred = transferred
        self._close = close
        self._subjects = Subjects()
        self._read = KeyedTotal()
        self._written = KeyedTotal()

    def collect(self) -> dict[str, float]:
        """Megabytes and a percentage for space, bytes for the counters."""
        read = self._subjects.read
        readings: dict[str, float] = {}
        for space in self._spaces:
            readings |= read(f"space in {space.path}", space.read)
        return readings | read("what disks transfer", self._transfers)

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        hanging = [space.trouble for space in self._spaces if space.trouble]
        return [*self._subjects.notes(), *hanging]

    def close(self) -> None:
        """Let go of what is read; may be called twice."""
        self._close()

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


class _Space:
    """Space on one file system, asked by a helper process where a call on it may hang.

    Args:
        prefix: What its readings begin with.
        path: A directory on it.
        mount: It; None where that is not known.

    Attributes:
        path: That directory.
        trouble: Why its readings are missing now, for a person to read; empty where they are not.
    """

    def __init__(self, prefix: str, path: str, mount: Mount | None) -> None:
        self.trouble = ""
        self._prefix = prefix
        self.path = path
        self._mount = mount
        self._keys = [f"{prefix}{name}" for name in _READINGS]

    @property
    def may_block(self) -> bool:
        """Whether asking it may take long, or that is not known."""
        return self._mount is None or self._mount.may_hang

    def read(self) -> dict[str, float]:
        if self._mount is None:  # not Linux
            usage = psutil.disk_usage(self.path)
            return self._readings(usage.percent, usage.used, usage.free)
        if not self._mount.may_hang:
            return self._readings(*read_space(self.path)[:3])
        try:
            helper = helper_of(self._mount)
            percent, used_bytes, free_bytes, _ = helper.call_within(
                _ANSWER_S, read_space, self.path
            )
        except NoAnswerError as error:
            self._report(str(error), is_certain=helper.silent_s >= _SAID_AFTER_S)
            return {}
        except OSError as error:
            self._report(f"{self._mount} cannot be asked: {error}", is_certain=True)
            return {}
        if self.trouble:
            logger.info("%s answers again", self._mount)
        self.trouble = ""
        return self._readings(percent, used_bytes, free_bytes)

    def _readings(self, percent: float, used_bytes: float, free_bytes: float) -> dict[str, float]:
        return dict(zip(self._keys, (percent, used_bytes / 1e6, free_bytes / 1e6), strict=True))

    def _report(self, what: str, *, is_certain: bool) -> None:
        if is_certain:
            self.trouble = f"{what}; system/{self._prefix}* metrics are missing meanwhile"
            warn_once(f"{self.trouble}, all others go on", f"{self._prefix} space on {self._mount}")


def open_disk(host: Host) -> DiskCollector:
    """Space exists on every host; the counters may not."""
    spaces = [_Space("disk_", os.sep, mount_of(os.sep)), *_working_space()]
    if host.system != "Linux":
        return DiskCollector(spaces, _psutil_transfers, lambda: None)
    diskstats = KernelFile(f"{host.procfs}/diskstats", is_long=True)
    return DiskCollector(spaces, _transfer_source(host, diskstats), diskstats.close)


def _working_space() -> Iterator[_Space]:
    """The working directory's, unless the root file system holds it or it has been deleted."""
    try:
        directory = os.getcwd()  # noqa: PTH109 - as a string
        mount = mount_of(directory)
        if mount is not None and mount.may_hang:
            is_apart = device_of(directory) != device_of(os.sep)
        else:
            is_apart = Path(directory).stat().st_dev != Path(os.sep).stat().st_dev
    except OSError:
        return
    if is_apart:
        yield _Space("disk/working_directory_", directory, mount)


def _transfer_source(host: Host, diskstats: KernelFile) -> Callable[[], dict[str, DiskBytes]]:
    physical: set[str] = set()
    others: set[str] = set()

    def transfers() -> dict[str, DiskBytes]:
        disks = diskstats.parsed(lambda text: parse_diskstats(text, but=others))
        for name in disks.keys() - physical:
            (physical if is_physical_disk(host, name) else others).add(name)
        return {name: disk for name, disk in disks.items() if name in physical}

    return transfers


def _psutil_transfers() -> dict[str, DiskBytes]:
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    return {name: DiskBytes(each.read_bytes, each.write_bytes) for name, each in counters.items()}
