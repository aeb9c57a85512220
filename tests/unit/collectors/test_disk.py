from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fakes.simulation import LONG_S, join_threads
from mlflow_sysmetrics.collectors import disk
from mlflow_sysmetrics.collectors.disk import open_disk
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling import runners
from mlflow_sysmetrics.sampling.collectors import COLLECTORS
from mlflow_sysmetrics.sampling.runners import CollectorSet

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

GB = 10**9
SECTOR_BYTES = 512
SPACE = {"disk_usage_percentage", "disk_usage_megabytes", "disk_available_megabytes"}
COUNTERS = ("disk_read_bytes", "disk_write_bytes")


class LinuxDisks:
    """A recorded host whose disks are described in sectors read and written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = Host(root=root, system="Linux")

    def are(self, **sectors: tuple[int, int]) -> None:
        lines = [
            f"8 0 {name} 1 0 {read} 0 1 0 {written} 0 0 0 0"
            for name, (read, written) in sectors.items()
        ]
        (self.root / "proc").mkdir(exist_ok=True)
        (self.root / "proc/diskstats").write_text("\n".join(lines))

    def have_hardware(self, *names: str) -> None:
        for name in names:
            (self.root / "sys/block" / name / "device").mkdir(parents=True)


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LinuxDisks:
    monkeypatch.chdir(os.sep)
    return LinuxDisks(tmp_path)


def test_space_is_that_of_the_root_file_system(mocker: MockerFixture, disks: LinuxDisks) -> None:
    ask = mocker.patch.object(disk, "read_space", return_value=(44.4, 40 * GB, 50 * GB, 100 * GB))

    assert open_disk(disks.host).collect() == {
        "disk_usage_percentage": 44.4,
        "disk_usage_megabytes": 40_000.0,
        "disk_available_megabytes": 50_000.0,
    }
    ask.assert_called_once_with(os.sep)


def test_what_passes_through_partitions_and_mappers_counts_once(disks: LinuxDisks) -> None:
    disks.have_hardware("sda", "nvme0n1")
    disks.are(sda=(1, 1), sda1=(1, 1), nvme0n1=(0, 0), **{"dm-0": (1, 1)})
    collector = open_disk(disks.host)
    collector.collect()

    disks.are(sda=(11, 3), sda1=(11, 3), nvme0n1=(5, 0), **{"dm-0": (16, 3)})

    assert _transferred(collector.collect()) == (15 * SECTOR_BYTES, 2 * SECTOR_BYTES)


def test_a_disk_that_is_plugged_in_counts_from_then_on_and_stays_in_the_total(
    disks: LinuxDisks,
) -> None:
    disks.have_hardware("sda", "sdb")
    disks.are(sda=(1, 1))
    collector = open_disk(disks.host)
    collector.collect()
    disks.are(sda=(2, 1), sdb=(70, 70))
    assert _transferred(collector.collect()) == (SECTOR_BYTES, 0)
    disks.are(sda=(2, 1), sdb=(71, 73))
    assert _transferred(collector.collect()) == (2 * SECTOR_BYTES, 3 * SECTOR_BYTES)

    disks.are(sda=(3, 1))

    assert _transferred(collector.collect()) == (3 * SECTOR_BYTES, 3 * SECTOR_BYTES)


@pytest.mark.parametrize("has_file", [True, False])
def test_without_a_physical_disk_there_is_space_alone(disks: LinuxDisks, *, has_file: bool) -> None:
    if has_file:
        disks.are(loop0=(1, 1))

    assert open_disk(disks.host).collect().keys() == SPACE


def test_elsewhere_the_system_tells_its_disks(mocker: MockerFixture) -> None:
    counters = mocker.patch("psutil.disk_io_counters")
    counters.return_value = {"disk0": SimpleNamespace(read_bytes=100, write_bytes=200)}
    collector = open_disk(Host(system="Darwin"))
    collector.collect()
    counters.return_value = {"disk0": SimpleNamespace(read_bytes=150, write_bytes=500)}

    assert _transferred(collector.collect()) == (50.0, 300.0)


@pytest.mark.parametrize("counters", [{}, None])
def test_elsewhere_too_there_may_be_none(mocker: MockerFixture, counters: object) -> None:
    mocker.patch("psutil.disk_io_counters", return_value=counters)

    assert open_disk(Host(system="Windows")).collect().keys() == SPACE


def _transferred(readings: dict[str, float]) -> tuple[float, ...]:
    return tuple(readings[name] for name in COUNTERS)


def test_the_working_directorys_file_system_is_added_where_it_is_another(
    mocker: MockerFixture, disks: LinuxDisks, monkeypatch: pytest.MonkeyPatch
) -> None:
    mocker.patch.object(
        disk,
        "read_space",
        side_effect=lambda path: (30.0, 30 * GB if path == os.sep else GB, 70 * GB, 100 * GB),
    )
    monkeypatch.chdir("/proc")  # a file system of its own on every Linux

    readings = open_disk(disks.host).collect()

    assert readings["disk_usage_megabytes"] == 30_000.0
    assert readings["disk/working_directory_usage_megabytes"] == 1_000.0
    assert (
        SPACE | {name.replace("disk_", "disk/working_directory_") for name in SPACE}
        == readings.keys()
    )


def test_a_deleted_working_directory_costs_nothing_else(
    tmp_path: Path, disks: LinuxDisks, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()

    assert open_disk(disks.host).collect().keys() >= SPACE


def test_a_file_system_of_unknown_kind_that_hangs_holds_up_no_sample(
    mocker: MockerFixture,
) -> None:
    back = threading.Event()
    mocker.patch.object(disk, "mount_of", return_value=None)
    mocker.patch("psutil.disk_usage", side_effect=lambda _: back.wait(LONG_S))
    mocker.patch.object(runners, "PATIENCE_S", 0.01)
    host = Host(system="Darwin")
    collectors = CollectorSet(host, lambda: [("disk", dict(COLLECTORS)["disk"])])

    (sample,) = collectors.collect()

    assert sample.values.keys() == {"process/sampler_cpu_milliseconds"}
    back.set()
    join_threads("mlflow-sysmetrics-slow")


def test_file_systems_of_this_machine_are_asked_without_another_thread(
    mocker: MockerFixture, disks: LinuxDisks
) -> None:
    mocker.patch.object(runners, "PATIENCE_S", LONG_S)
    collectors = CollectorSet(disks.host, lambda: [("disk", dict(COLLECTORS)["disk"])])
    collectors.collect()  # it opens them in one
    started = mocker.spy(threading.Thread, "start")

    (sample, _) = collectors.collect()

    assert sample.values.keys() == SPACE
    assert not started.called
