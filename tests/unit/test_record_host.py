from __future__ import annotations

import importlib
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.accelerators.amd.kfd import read_nodes
from mlflow_sysmetrics.accelerators.sysfs_collector import open_amd, open_intel
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.cgroup import Limits, read_limits
from mlflow_sysmetrics.sources.container import read_container
from mlflow_sysmetrics.sources.cpuinfo import read_cpu_model
from mlflow_sysmetrics.sources.diskstats import is_physical_disk
from mlflow_sysmetrics.sources.os_release import read_os_release

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from mlflow_sysmetrics.collectors.contract import Collector

SCRIPTS = Path(__file__).parents[2] / "scripts"
GPUS = Path(__file__).parents[1] / "data/gpus"
CONTAINER_ID = "0f6d1c1e5a4bcd2f" * 4
POD_UID = "1b2c3d4e_5f60_4711_8899_aabbccddeeff"
GROUP = f"/alices.slice/pod{POD_UID}/cri-containerd-{CONTAINER_ID}.scope"
PRIVATE = ("alice", "secret", CONTAINER_ID, POD_UID, "4711", "aabbcc", "10.1.2.3", "0badcafe")
FILES = {
    "etc/os-release": 'NAME="Debian"\n',
    "proc/1/environ": "TOKEN=secret\0container=docker\0",
    "proc/cpuinfo": "model name\t: AMD EPYC 7763\n\nSerial\t\t: 100000000badcafe\n",
    "proc/meminfo": "MemTotal: 4096 kB\n",
    "proc/self/cgroup": f"0::{GROUP}\n",
    "proc/self/cmdline": "python\0--password=secret\0",
    "proc/self/mountinfo": (
        "30 1 0:26 / /home/alice rw - nfs secret.example.com:/home rw,addr=10.1.2.3\n"
        "35 31 0:32 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 alices-box rw,nsdelegate\n"
    ),
    "proc/self/status": "Name:\tsecret.py\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n",
    "run/.containerenv": 'name="alices"\n',
    "sys/block/nvme0n1/device": "",
    "sys/class/net/eth0/device": "",
    "sys/class/net/enx0badcafe0001/device": "",
    "sys/devices/system/cpu/online": "0-7\n",
    f"sys/fs/cgroup{GROUP}/memory.max": "1048576\n",
}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`scripts/record_host.py`."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("record_host")


@pytest.fixture
def alices_host(tmp_path: Path) -> Host:
    """A host with much that is nobody's business."""
    root = tmp_path / "alices-box"
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Host(root=root, system="Linux", environ={})


def outcome(read: Callable[[Host], object], host: Host) -> object:
    """What a source tells of a host; on another system than Linux that there is nothing."""
    try:
        return read(host)
    except Unavailable:
        return Unavailable


def test_this_machine_reads_the_same_from_its_record(module: ModuleType, tmp_path: Path) -> None:
    here = Host(system="Linux", environ={})
    written = module.record(here, tmp_path / "here")

    recorded = Host(root=tmp_path / "here", system="Linux", environ={})
    for read in (read_limits, read_cpu_model, read_os_release):
        assert outcome(read, recorded) == outcome(read, here)
    told = "\n".join(f"{path}\n{path.read_text()}" for path in written)
    assert not re.search(rf"\b{re.escape(platform.node())}\b", told)


def test_a_record_keeps_what_the_package_reads(
    module: ModuleType, alices_host: Host, tmp_path: Path
) -> None:
    module.record(alices_host, tmp_path / "out")

    recorded = Host(root=tmp_path / "out", system="Linux", environ={})
    assert read_limits(recorded) == Limits(cpus=2.0, memory_bytes=1048576)
    assert read_container(recorded) == "podman"
    assert is_physical_disk(recorded, "nvme0n1")
    assert (tmp_path / "out/sys/class/net/eth0/device").exists()


def test_a_record_tells_nothing_about_its_owner(
    module: ModuleType, alices_host: Host, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    written = module.record(alices_host, out)

    told = "\n".join(f"{path.relative_to(out)}\n{path.read_text()}" for path in written)
    assert [word for word in PRIVATE if word in told] == []


@pytest.mark.parametrize(
    ("name", "opener"), [("mi300x", open_amd), ("arc-xe", open_intel), ("i915-laptop", open_intel)]
)
def test_gpus_read_the_same_from_their_record(
    module: ModuleType, name: str, opener: Callable[[Host], Collector], tmp_path: Path
) -> None:
    shutil.copytree(GPUS / name, tmp_path / "host")
    (tmp_path / "host/dev/dri").mkdir(parents=True)
    (tmp_path / "host/dev/dri/renderD129").touch()
    host = Host(root=tmp_path / "host", system="Linux", environ={})
    written = module.record(host, tmp_path / "out")

    recorded = Host(root=tmp_path / "out", system="Linux", environ={})
    assert opener(recorded).collect() == opener(host).collect()
    assert [node._replace(unique_id=None) for node in read_nodes(host)] == list(
        read_nodes(recorded)
    )
    told = "\n".join(path.read_text() for path in written)
    assert "4a5f2ce1d7b09e63" not in told
    assert str(0x4A5F2CE1D7B09E63) not in told


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("/kubepods/burstable/user@1000.service", "/kubepods/burstable/user@1000.service"),
        (f"/docker/{CONTAINER_ID}", f"/docker/{1:064}"),
        (f"pod{POD_UID}.slice", "pod00000000_0000_0000_0000_000000000001.slice"),
        ("run-r0badcafe.scope", "run-r00000001.scope"),
        ("/Jürgen_job-7/jürgen", "/name1_job-7/name2"),
        ("sshd@3-10.1.2.3:22-fe80::1:2:3.service", "name1@3-name2:22-name3.service"),
        ("de:ad:be:ef:00:01", "name1"),
    ],
)
def test_known_words_and_small_numbers_stay(module: ModuleType, text: str, scrubbed: str) -> None:
    assert module.Scrubber().scrub(text) == scrubbed


def test_the_same_is_replaced_by_the_same(module: ModuleType) -> None:
    scrubber = module.Scrubber()
    first, second = scrubber.scrub("bob/0badcafe/carol"), scrubber.scrub("carol/0badcafe/bob")
    assert first == "name1/00000001/name2"
    assert second == "name2/00000001/name1"


def test_nothing_is_overwritten(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["record_host.py", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_command_lists_what_it_wrote(
    module: ModuleType,
    alices_host: Host,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(module, "Host", lambda: alices_host)
    monkeypatch.setattr(sys, "argv", ["record_host.py", str(out)])

    assert module.main() == 0

    files = {str(path) for path in out.rglob("*") if path.is_file()}
    assert files == set(re.findall(r"^/.*$", capsys.readouterr().out, re.MULTILINE))
