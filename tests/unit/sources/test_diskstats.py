from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.diskstats import (
    DiskBytes,
    is_physical_disk,
    parse_diskstats,
)

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
 259       0 nvme0n1 15089 9385 2153210 10488 8635 60310 4505840 19180 0 9076 29668 0 0 0 0 0 0
 259       1 nvme0n1p1 14000 9385 2100000 10000 8000 60310 4500000 19000 0 9000 29000
   7       0 loop0 56 0 2294 20 0 0 0 0 0 36 20 0 0 0 0
"""


def test_bytes_are_sectors_of_512_whatever_the_kernel_lists_behind_them() -> None:
    assert parse_diskstats(TEXT) == {
        "nvme0n1": DiskBytes(read=2153210 * 512, written=4505840 * 512),
        "nvme0n1p1": DiskBytes(read=2100000 * 512, written=4500000 * 512),
        "loop0": DiskBytes(read=2294 * 512, written=0),
    }


def test_a_host_without_block_devices_has_none() -> None:
    assert parse_diskstats("") == {}


ODD = pytest.mark.parametrize(
    "line",
    [
        "8 0 sda",
        "8 0 sda 1 2 x 4 5 6 7 8 9 10 11",
        "garbage",
        "8 1 sda1 1 2 3 4",
        "8 0 sda 1 2 -3 4 5 6 7 8 9 10 11",
        "8 0 sda 1 2 99999999999999999999 4 5 6 7 8 9 10 11",
        "8 0 sda 15089 9385 2153210 10488 8635 60310 45058",
        f"8 0 {'x' * 300} 1 2 3 4 5 6 7 8 9 10 11",
        "\0\0\0",
    ],
)


@ODD
def test_a_line_of_another_format_costs_no_other_line(line: str) -> None:
    assert parse_diskstats(f"{line}\n{TEXT}{line}") == parse_diskstats(TEXT)


@ODD
def test_another_format_is_refused(line: str) -> None:
    with pytest.raises(ParseError, match="/proc/diskstats"):
        parse_diskstats(line)


def test_only_what_has_hardware_behind_it_is_a_physical_disk(tmp_path: Path) -> None:
    for name in ("sda/device", "sda/sda1", "dm-0", "loop0", "cciss!c0d0/device"):
        (tmp_path / "sys/block" / name).mkdir(parents=True)
    host = Host(root=tmp_path)

    names = ("sda", "sda1", "dm-0", "loop0", "cciss/c0d0", "gone")

    assert [name for name in names if is_physical_disk(host, name)] == ["sda", "cciss/c0d0"]
