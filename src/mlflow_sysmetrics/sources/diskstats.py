"""Bytes read from and written to whole disks, from `/proc/diskstats`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.sources import MOST, ParseError

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflow_sysmetrics.host.host import Host

_SECTOR_BYTES = 512  # the unit of this file, whatever the disk's own sectors are

_LINE = re.compile(
    r" *[0-9]+ +[0-9]+ (\S{1,31})(?: [0-9]+){2} ([0-9]{1,20})(?: [0-9]+){3} ([0-9]{1,20})"
    r"(?: [0-9]+){4}"
)
_NAME_FIELD = 2


class DiskBytes(NamedTuple):
    """What one block device has transferred since it appeared."""

    read: int
    written: int


def parse_diskstats(text: str, but: Collection[str] = ()) -> dict[str, DiskBytes]:
    """Transferred bytes by device name, but for some devices.

    A line is `254 0 vda 15089 9385 2153210 10488 8635 60310 4505840 19180 …`: after the name the
    third number is sectors read, the seventh sectors written. Other lines are passed over, such as
    those of partitions with four numbers that some kernels print.

    Raises:
        ParseError: No line looks so.
    """
    devices: dict[str, DiskBytes] = {}
    is_known = False
    for line in text.split("\n"):
        fields = line.split(None, _NAME_FIELD + 1)
        if len(fields) > _NAME_FIELD and fields[_NAME_FIELD] in but:
            is_known = True
        elif match := _LINE.match(line):
            name, read, written = match.groups()
            counters = DiskBytes(int(read) * _SECTOR_BYTES, int(written) * _SECTOR_BYTES)
            if max(counters) < MOST:
                devices.setdefault(name, counters)
    if not devices and not is_known and text.strip():
        raise ParseError("/proc/diskstats", text)
    return devices


def is_physical_disk(host: Host, name: str) -> bool:
    """Whether the device is a disk itself: no partition, device-mapper, RAID, loop or RAM disk.

    What passes through those is counted once more on the disks under them.
    """
    # Path.exists raises where that may not be looked at.
    return os.path.exists(host.sysfs / "block" / name.replace("/", "!") / "device")  # noqa: PTH110
