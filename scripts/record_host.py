"""Record what the package reads of a Linux host, scrubbed, as test data.

    python3 scripts/record_host.py tests/data/hosts/NAME

Only the files that are listed here are recorded; environment variables and command lines are not
among them. Of the names of cgroups, mounts and interfaces just those words stay that every Linux
has: any other word becomes `name1`, an id zeros and a number, the same wherever it stands.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from _environment import ROOT

sys.path.insert(0, str(ROOT / "src"))  # the checkout's, and not what an environment has installed

from mlflow_sysmetrics.accelerators.amd import driver as amdgpu
from mlflow_sysmetrics.accelerators.drm import read_cards
from mlflow_sysmetrics.accelerators.intel import drivers as intel_gpu
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.cgroup_paths import UNIFIED, find_cgroup
from mlflow_sysmetrics.sources.container import SERVICE_ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FILES = (
    "etc/os-release",
    "proc/diskstats",
    "proc/loadavg",
    "proc/meminfo",
    "proc/pressure/cpu",
    "proc/pressure/io",
    "proc/pressure/memory",
    "proc/sys/kernel/osrelease",
    "run/systemd/container",
    "sys/class/dmi/id/bios_vendor",
    "sys/class/dmi/id/board_vendor",
    "sys/class/dmi/id/product_name",
    "sys/class/dmi/id/sys_vendor",
    "sys/devices/system/clocksource/clocksource0/available_clocksource",
    "sys/devices/system/cpu/online",
    "sys/hypervisor/type",
    "usr/lib/os-release",
)
"""Recorded as they are: they tell of the hardware and the distribution."""

_MARKS = (".dockerenv", "dev/nvidiactl", "run/.containerenv", f"{SERVICE_ACCOUNT}/namespace")
"""Files of which only the existence is recorded."""

_CARD_FILES = (
    "device/*_busy_percent",
    "device/drm/renderD*/dev",
    "device/hwmon/hwmon*/*_cap",
    "device/hwmon/hwmon*/*_average",
    "device/hwmon/hwmon*/*_input",
    "device/hwmon/hwmon*/*_label",
    "device/hwmon/hwmon*/*_max",
    "device/hwmon/hwmon*/pwm1",
    "device/mem_info_*_total",
    "device/mem_info_*_used",
    "device/power/runtime_status",
    "device/product_name",
    "device/revision",
    "device/tile*/gt0/freq0/act_freq",
    "device/tile*/gt0/gtidle/idle_residency_ms",
    "device/tile*/physical_vram_size_bytes",
    "device/uevent",
    "device/unique_id",
    "gt/gt0/rc6_residency_ms",
    "gt/gt0/rps_act_freq_mhz",
    "gt_act_freq_mhz",
    "power/rc6_residency_ms",
)
"""Of each graphics card; its serial number becomes zeros and a number."""

_CONTROLLERS = ("cpu", "cpuset", "memory", UNIFIED)

_CGROUP_FILES = (
    "cgroup.controllers",
    "cgroup.type",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.max",
    "cpu.pressure",
    "cpu.stat",
    "cpuset.cpus",
    "cpuset.cpus.effective",
    "cpuset.effective_cpus",
    "io.pressure",
    "memory.current",
    "memory.events",
    "memory.limit_in_bytes",
    "memory.max",
    "memory.oom_control",
    "memory.pressure",
    "memory.stat",
    "memory.usage_in_bytes",
)

_KNOWN_WORDS = frozenset(
    """
    app apptainer besteffort blkio buildkit burstable cgroup cgroup2 cls containerd container cpu
    cpuacct cpuset cri crio deleted devices docker event freezer fs guaranteed hugetlb init io job
    k3s k8s kubelet kubepods libpod lxc machine master memory misc monitor name net nodev noexec
    none nosuid nsdelegate payload perf pids pod podman prio proc propagate rdma recursiveprot
    relatime ro root run runtime rw scope service session shared singularity slice slurm slurmd
    slurmstepd step supervisor sys system systemd task tasks uid unified user
    """.split()  # noqa: SIM905 - a literal list would be hard to read
)
"""Words of cgroup names and mount options that do not identify the host."""

_UUID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}"
_IPV4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_IPV6_OR_MAC = r"[0-9a-f]{1,4}(?:::?[0-9a-f]{1,4}){3,}"
_WORD = re.compile(rf"(?:pod)?{_UUID}|{_IPV4}|{_IPV6_OR_MAC}|[^\W_]+")
_ID = re.compile(rf"(pod|r|)({_UUID}|[0-9a-f]{{7,}})")
_SMALL_NUMBER = re.compile(r"[0-9]{1,6}")
_HEX_DIGIT = re.compile(r"[0-9a-f]")
_KERNEL_INTERFACE = re.compile(r"(eth|ib|wlan)\d+|(en|ib|wl)([ops]\d+)+(f\d+)?(np\d+)?|hsn\d+")
_SERIAL_NUMBER = re.compile(r"^(Serial\s*: ).*$", re.MULTILINE)
_NODE = re.compile(r"^(?:domain|drm_render_minor|location_id) .*\n", re.MULTILINE)
_ALLOWED_CPUS = re.compile(r"^Cpus_allowed_list:.*\n", re.MULTILINE)


class Scrubber:
    """Replaces what identifies the host: equal texts by equal texts."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def scrub(self, text: str) -> str:
        """The text with only known words and small numbers left as they are.

        `/system.slice/docker-0f6d1c1e5a4b.scope` becomes
        `/system.slice/docker-000000000001.scope`, and `/alice.slice` becomes `/name1.slice`.
        """
        return _WORD.sub(lambda word: self._replaced(word.group()), text)

    def interface(self, name: str) -> str:
        """An interface's name, kept if the kernel or udev gave it by the slot it is in."""
        return name if _KERNEL_INTERFACE.fullmatch(name) else self._name(name)

    def _replaced(self, word: str) -> str:
        if word in _KNOWN_WORDS or _SMALL_NUMBER.fullmatch(word):
            return word
        identifier = _ID.fullmatch(word)
        if identifier is None:
            return self._name(word)
        prefix, digits = identifier.groups()
        number = self._ids.setdefault(digits, str(len(self._ids) + 1))
        return prefix + _HEX_DIGIT.sub("0", digits[: -len(number)]) + number

    def _name(self, name: str) -> str:
        return self._names.setdefault(name, f"name{len(self._names) + 1}")


def record(host: Host, folder: Path) -> list[Path]:
    """Record a host and return the files that were written.

    Raises:
        FileExistsError: The folder is there already.
    """
    # Everything is read before anything is written, so that counters are of one moment.
    files = dict(_scrubbed_files(host, Scrubber()))
    folder.mkdir(parents=True)
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    return [folder / path for path in files]


def _scrubbed_files(host: Host, scrubber: Scrubber) -> Iterator[tuple[str, str]]:
    """Path below the root, and content, of each file to be recorded."""
    kept: dict[str, Callable[[str], str]] = {
        **dict.fromkeys(_FILES, str),
        "proc/cpuinfo": lambda text: _SERIAL_NUMBER.sub(r"\g<1>0", text),
        "proc/stat": lambda text: text.partition("\n")[0] + "\n",
        "proc/self/status": lambda text: "".join(_ALLOWED_CPUS.findall(text)),
        "proc/self/cgroup": scrubber.scrub,
        "proc/self/mountinfo": lambda text: scrubber.scrub(_cgroup_mounts(text)),
    }
    for path, part_of in kept.items():
        with suppress(Unavailable):
            yield path, part_of(host.read_text(path))
    yield from _card_files(host, scrubber)
    yield from _cgroup_files(host, scrubber)
    yield from _marks(host, scrubber)


def _cgroup_mounts(mountinfo: str) -> str:
    """The lines of cgroups; the others name disks, servers and users."""
    lines = mountinfo.splitlines(keepends=True)
    return "".join(line for line in lines if " - cgroup" in line)


def _card_files(host: Host, scrubber: Scrubber) -> Iterator[tuple[str, str]]:
    """What the drivers of AMD's and Intel's GPUs tell."""
    for card in read_cards(host, (amdgpu.DRIVER, *intel_gpu.DRIVERS)):
        for pattern in _CARD_FILES:
            for path in sorted(card.directory.glob(pattern)):
                with suppress(Unavailable):
                    text = host.read_text(path)
                    is_serial_number = path.name == "unique_id"
                    below_root = path.relative_to(host.root).as_posix()
                    yield below_root, scrubber.scrub(text) if is_serial_number else text
    for node in sorted((host.sysfs / "class/kfd/kfd/topology/nodes").glob("*")):
        below_root = node.relative_to(host.root).as_posix()
        with suppress(Unavailable):
            yield f"{below_root}/gpu_id", host.read_text(node / "gpu_id")
            properties = host.read_text(node / "properties")
            yield f"{below_root}/properties", "".join(_NODE.findall(properties))


def _cgroup_files(host: Host, scrubber: Scrubber) -> Iterator[tuple[str, str]]:
    """Limits and use of this process's groups and of their ancestors."""
    for directory in dict.fromkeys(_cgroup_directories(host)):
        below_root = scrubber.scrub(directory.relative_to(host.root).as_posix())
        for name in _CGROUP_FILES:
            with suppress(Unavailable):
                yield f"{below_root}/{name}", host.read_text(directory / name)


def _cgroup_directories(host: Host) -> Iterator[Path]:
    for controller in _CONTROLLERS:
        with suppress(Unavailable):
            yield from find_cgroup(host, controller).directories


def _marks(host: Host, scrubber: Scrubber) -> Iterator[tuple[str, str]]:
    """Empty files: traces of containers and drivers, disks and interfaces with hardware."""
    for path in _MARKS:
        if os.path.exists(host.root / path):  # noqa: PTH110 - Path.exists raises where forbidden
            yield path, ""
    for node in sorted((host.root / "dev/dri").glob("renderD*")):
        if host.may_use(f"dev/dri/{node.name}"):
            yield f"dev/dri/{node.name}", ""
    for device in sorted((host.sysfs / "block").glob("*/device")):
        yield f"sys/block/{device.parent.name}/device", ""
    for device in sorted((host.sysfs / "class/net").glob("*/device")):
        yield f"sys/class/net/{scrubber.interface(device.parent.name)}/device", ""


def main() -> int:
    """Record this machine."""
    parser = argparse.ArgumentParser(description="Record this Linux host, scrubbed, as test data.")
    parser.add_argument("folder", type=Path, help="where to; it must not be there yet")
    folder: Path = parser.parse_args().folder
    host = Host()
    if host.system != "Linux":
        parser.error("only a Linux host can be recorded")
    try:
        written = record(host, folder)
    except FileExistsError:
        parser.error(f"{folder} is there already")
    for path in written:
        print(path)
    print(f"{len(written)} files. Look through them before you give them away.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
