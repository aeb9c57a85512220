"""One reading that fails takes no other with it: small inputs of faults that users have met."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from fakes.fake_nvml import error, load_gpu
from fakes.fake_proc import FakeProc
from fakes.simulation import Simulation
from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.accelerators.sysfs_collector import open_amd
from mlflow_sysmetrics.collectors.container import open_container
from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.collectors.disk import open_disk
from mlflow_sysmetrics.collectors.memory import open_memory
from mlflow_sysmetrics.collectors.network import open_network
from mlflow_sysmetrics.collectors.pressure import open_pressure
from mlflow_sysmetrics.collectors.process_tree import open_process_tree
from mlflow_sysmetrics.facts import FACTS, tags_of
from mlflow_sysmetrics.facts.probes import read_fact
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.runner import CollectorRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakes.fake_nvml import FakeNvml

DATA = Path(__file__).parents[1] / "data"
MEMINFO = """\
MemTotal:       16000000 kB
MemFree:         1000000 kB
MemAvailable:   12000000 kB
SwapTotal:       2000000 kB
SwapFree:        1500000 kB
"""
DISK = "   8       0 sda 1 0 {read} 0 1 0 {written} 0 0 0 0\n"
KIB = 1024
SPACE = {"disk_usage_percentage", "disk_usage_megabytes", "disk_available_megabytes"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "proc").mkdir()
    monkeypatch.setattr(psutil, "PROCFS_PATH", f"{tmp_path}/proc")
    monkeypatch.chdir("/")
    return Host(root=tmp_path, system="Linux", environ={}, clock=Simulation(1000.0))


@pytest.mark.parametrize(
    "meminfo",
    [
        pytest.param(MEMINFO + "\0" * 300, id="NUL bytes after it, as lxcfs on ARM had"),
        pytest.param("\0\0\n" + MEMINFO, id="NUL bytes before it"),
        pytest.param(MEMINFO + "Hugepagesize:\n", id="a line without a number"),
        pytest.param(MEMINFO + "\n\n", id="empty lines"),
        pytest.param(MEMINFO + "HardwareCorrupted: many kB\n", id="a word for a number"),
        pytest.param(MEMINFO + MEMINFO.replace("16000000", "1"), id="all lines twice"),
    ],
)
def test_memory_is_there_whatever_one_line_of_meminfo_is(host: Host, meminfo: str) -> None:
    (host.procfs / "meminfo").write_text(meminfo)

    readings = open_memory(host).collect()

    assert readings["memory/swap_usage_megabytes"] == 500_000 * KIB / 1e6
    assert readings["memory/swap_usage_percentage"] == 25
    if "twice" not in meminfo and meminfo.count("MemTotal") == 1:
        assert readings["system_memory_usage_percentage"] == pytest.approx(25)
        assert readings["system_memory_usage_megabytes"] == 4_000_000 * KIB / 1e6


@pytest.mark.parametrize("line", ["MemTotal: -5 kB", "MemTotal: 99999999999999999999 kB", ""])
def test_swap_is_there_where_the_memory_is_not(host: Host, line: str) -> None:
    memory = "MemTotal:       16000000 kB"
    (host.procfs / "meminfo").write_text(MEMINFO.replace(memory, line))

    assert open_memory(host).collect().keys() == {
        "memory/swap_usage_megabytes",
        "memory/swap_usage_percentage",
    }


def test_the_process_tree_is_there_where_the_hosts_memory_is_not(host: Host) -> None:
    shutil.rmtree(host.procfs)
    proc = FakeProc(host.root, Simulation(1000.0))
    proc.run(50, pages=300)
    (host.procfs / "meminfo").write_text("\0" * 300)
    collector = open_process_tree(replace(proc.host, pid=50))

    readings = collector.collect()

    assert readings["process/num_threads"] == 1
    assert "process/memory_rss_megabytes" in readings
    assert "process/memory_usage_percentage" not in readings
    assert any("memory" in note for note in collector.notes())

    (host.procfs / "meminfo").write_text(MEMINFO)

    rss_bytes = readings["process/memory_rss_megabytes"] * 1e6
    assert collector.collect()["process/memory_usage_percentage"] == pytest.approx(
        100 * rss_bytes / (16_000_000 * KIB)
    )


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("\0" * 900, id="NUL bytes"),
        pytest.param("   8       1 sda1 10 20 30 40\n", id="a partition of an old kernel"),
        pytest.param("   8      16 sdb 1 0 99\n", id="a line cut short"),
        pytest.param("   8      16 sdb 1 0 -9 0 1 0 9 0 0 0 0\n", id="a negative number"),
        pytest.param("   8      16 " + "x" * 5000 + " 1 0 9 0 1 0 9 0 0 0 0\n", id="a long name"),
        pytest.param("\x80\xff\n", id="no text"),
    ],
)
def test_disks_are_there_whatever_one_line_of_diskstats_is(host: Host, odd: str) -> None:
    (host.sysfs / "block/sda/device").mkdir(parents=True)
    (host.sysfs / "block/sdb/device").mkdir(parents=True)
    diskstats = host.procfs / "diskstats"
    diskstats.write_bytes(DISK.format(read=1, written=1).encode() + odd.encode("latin-1"))
    collector = open_disk(host)
    collector.collect()
    diskstats.write_bytes(DISK.format(read=11, written=3).encode() + odd.encode("latin-1"))

    readings = collector.collect()

    assert readings["disk_read_bytes"] == 10 * 512
    assert readings["disk_write_bytes"] == 2 * 512
    assert readings.keys() >= SPACE


def test_space_is_there_where_diskstats_cannot_be_read_and_rates_come_back(host: Host) -> None:
    (host.sysfs / "block/sda/device").mkdir(parents=True)
    diskstats = host.procfs / "diskstats"
    diskstats.write_text("garbage")
    collector = open_disk(host)

    assert collector.collect().keys() == SPACE
    assert any("disks transfer" in note for note in collector.notes())

    diskstats.write_text(DISK.format(read=1, written=1))
    collector.collect()
    diskstats.write_text(DISK.format(read=3, written=1))

    assert collector.collect()["disk_read_bytes"] == 2 * 512
    assert not collector.notes()


def test_a_counter_that_was_misread_once_makes_no_peak(host: Host) -> None:
    (host.sysfs / "block/sda/device").mkdir(parents=True)
    collector = open_disk(host)
    totals = []
    for sectors in (100, 102, 9_999_999_999_999_999, 104, 107):
        (host.procfs / "diskstats").write_text(DISK.format(read=sectors, written=1))
        totals.append(collector.collect()["disk_read_bytes"])

    assert totals == [0, 2 * 512, 2 * 512, 2 * 512, 5 * 512]


def test_a_working_directory_that_is_deleted_ends_its_own_figures(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path("/dev/shm/mlflow-sysmetrics-test")  # noqa: S108 - a file system of its own
    if directory.parent.stat().st_dev == Path("/").stat().st_dev:
        pytest.skip("needs a second file system")
    directory.mkdir()
    monkeypatch.chdir(directory)
    collector = open_disk(host)
    assert "disk/working_directory_usage_megabytes" in collector.collect()

    directory.rmdir()

    assert collector.collect().keys() == SPACE


def test_an_interface_that_vanishes_ends_its_own_traffic(host: Host) -> None:
    headings = "Inter-|\n face |\n"
    line = "{name}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"
    (host.procfs / "net").mkdir()
    net_dev = host.procfs / "net/dev"
    both = line.format(name="eth0", received=10, sent=20) + line.format(
        name="veth1", received=1, sent=2
    )
    net_dev.write_text(headings + both)
    collector = open_network(host)
    collector.collect()

    net_dev.write_text(headings + line.format(name="eth0", received=15, sent=27))

    readings = collector.collect()
    assert readings["network_receive_bytes"] == 5
    assert readings["network_transmit_bytes"] == 7


@pytest.fixture
def docker(tmp_path: Path) -> Host:
    shutil.copytree(DATA / "hosts/docker-v2", tmp_path / "docker")
    clock = Simulation(1000.0)
    return Host(root=tmp_path / "docker", system="Linux", environ={}, clock=clock)


def test_a_cgroup_that_vanishes_ends_its_own_pressure_and_not_the_hosts(docker: Host) -> None:
    pressure, container = open_pressure(docker), open_container(docker)
    shutil.rmtree(docker.sysfs / "fs/cgroup")

    readings = pressure.collect()

    assert {name.partition("/")[0] for name in readings} == {"pressure"}
    assert len(readings) == 5
    assert container.collect() == {}


def test_a_gpu_that_falls_off_the_bus_ends_its_own_figures(tmp_path: Path) -> None:
    shutil.copytree(DATA / "gpus/mi300x", tmp_path / "gpus")
    host = Host(root=tmp_path / "gpus", system="Linux", environ={}, clock=Simulation(1000.0))
    collector = open_amd(host)
    whole = collector.collect()

    shutil.rmtree(host.sysfs / "class/drm/card1")

    left = {name for name in whole if name.startswith("gpu_1_")}
    readings = collector.collect()
    assert left
    assert {name for name in readings if name.startswith("gpu_1_")} == left
    assert not any(name.startswith("gpu_0_") for name in readings)


def test_a_gpus_figure_that_its_firmware_cannot_measure_is_left_out(tmp_path: Path) -> None:
    shutil.copytree(DATA / "gpus/mi300x", tmp_path / "gpus")
    host = Host(root=tmp_path / "gpus", system="Linux", environ={}, clock=Simulation(1000.0))
    (host.sysfs / "class/drm/card1/device/gpu_busy_percent").write_text("65535\n")

    readings = open_amd(host).collect()

    assert "gpu_0_utilization_percentage" not in readings
    assert "gpu_0_memory_usage_megabytes" in readings
    assert "gpu_1_utilization_percentage" in readings


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 4294967.295])
def test_a_figure_that_no_machine_has_is_left_out_whoever_reports_it(
    value: float, host: Host
) -> None:
    class Odd(Collector):
        def collect(self) -> dict[str, float]:
            return {"gpu_0/temperature_celsius": value, "gpu_0_power_usage_watts": 300.0}

    member = CollectorRunner("odd", lambda _: Odd(), host)
    member.open()
    sample = member.sample(is_last=False)

    assert sample is not None
    assert sample.values == {"gpu_0_power_usage_watts": 300.0}


GARBLED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "binary": lambda _: bytes(range(256)) * 8,
    "only NUL bytes": lambda content: bytes(len(content)),
    "a long line": lambda _: b"x" * 20_000,
    "words": lambda _: b"temporarily: not available\n",
}


@pytest.mark.parametrize("way", GARBLED)
@pytest.mark.parametrize(
    ("file", "carries"),
    [
        ("proc/cpuinfo", {"sys.cpu"}),
        ("etc/os-release", {"sys.os"}),
        ("proc/meminfo", {"sys.memory_gb", "sys.memory_limit_gb"}),
        ("proc/self/mountinfo", {"sys.cpu_limit", "sys.memory_limit_gb"}),
        ("proc/self/cgroup", {"sys.cpu_limit", "sys.memory_limit_gb"}),
        ("sys/devices/system/cpu/online", {"sys.cpu_limit"}),
    ],
)
def test_a_file_that_is_garbled_costs_the_tags_that_it_carries(
    file: str, carries: set[str], way: str, tmp_path: Path
) -> None:
    shutil.copytree(DATA / "hosts/hybrid-recorded", tmp_path / "host")
    host = Host(root=tmp_path / "host", system="Linux", environ={})
    expected = {key: value for key, value in _tags(host).items() if key not in carries}
    path = host.root / file

    path.write_bytes(GARBLED[way](path.read_bytes()))

    ours = {"sysmetrics.error", *carries}
    assert {key: value for key, value in _tags(host).items() if key not in ours} == expected


@pytest.mark.parametrize("file", ["proc/cpuinfo", "etc/os-release", "proc/meminfo"])
@pytest.mark.parametrize("odd", [b"\0" * 300, b"\xff\xfe\n", b"no assignment\n", b"'\n"])
def test_an_odd_line_costs_no_tag(file: str, odd: bytes, tmp_path: Path) -> None:
    shutil.copytree(DATA / "hosts/hybrid-recorded", tmp_path / "host")
    host = Host(root=tmp_path / "host", system="Linux", environ={})
    expected = _tags(host)
    path = host.root / file

    path.write_bytes(path.read_bytes() + odd)

    assert _tags(host) == expected


def _tags(host: Host) -> dict[str, str]:
    tags = tags_of(read_fact(fact, host) for fact in FACTS if fact[0] != "disk")
    return {key: value for key, value in tags.items() if key != "sys.gpu_metrics"}


def _failing(*errors: Exception) -> Callable[[Host], object]:
    """An opener that raises one after the other, and then opens the swap's readings."""
    left = list(errors)

    def open_it(host: Host) -> object:
        if left:
            raise left.pop(0)
        return open_memory(host)

    return open_it


@pytest.mark.parametrize(
    "failure",
    [
        OSError(24, "Too many open files"),
        OSError(11, "Resource temporarily unavailable"),
        MemoryError(),
        RuntimeError("can't start new thread"),
        ValueError("garbage"),
        TimeoutError("timed out"),
    ],
    ids=repr,
)
def test_a_collector_that_failed_to_open_is_opened_later(host: Host, failure: Exception) -> None:
    (host.procfs / "meminfo").write_text(MEMINFO)
    member = CollectorRunner("memory", _failing(failure, failure), host)  # type: ignore[arg-type] # a collector
    for pause_s in (0.0, 1.0, 2.0):
        assert member.sample(is_last=False) is None
        host.clock.pass_time(pause_s)  # type: ignore[attr-defined] # a Simulation
        member.open()

    assert member.absence is None
    assert member.sample(is_last=False) is not None


@pytest.mark.usefixtures("outside_containers")
def test_a_driver_that_failed_when_a_run_opened_is_asked_again(
    tmp_path: Path, install_nvml: Callable[..., FakeNvml]
) -> None:
    nvml = install_nvml(load_gpu("h100"))
    nvml.answers["nvmlInit"] = error("UNKNOWN")  # also for want of memory
    host = Host(root=tmp_path, system="Linux", environ={}, clock=Simulation(1000.0))
    member = CollectorRunner("nvidia", open_nvidia, host)
    member.open()
    assert member.absence is not None

    nvml.answers["nvmlInit"] = None
    host.clock.pass_time(1.0)  # type: ignore[attr-defined] # a Simulation
    member.open()

    assert member.absence is None
    assert member.sample(is_last=False) is not None


def test_what_a_host_does_not_have_is_looked_for_once(host: Host) -> None:
    member = CollectorRunner("memory", _failing(Unavailable("no such thing")), host)  # type: ignore[arg-type] # a collector
    member.open()
    host.clock.pass_time(1e6)  # type: ignore[attr-defined] # a Simulation
    member.open()

    assert member.absence == "no such thing"
    assert not member.may_be_opened
