"""Whatever one file of a host holds, only what it carries is missing, and no figure is nonsense.

The files are not listed here: each that a collector opens on a made-up host is garbled in turn, so
that a new collector is covered as it is. `CARRIES` says which readings a file carries; of one that
is not in it, only that it costs nothing of other collectors is checked.
"""

from __future__ import annotations

import math
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest

from fakes.fake_proc import FakeProc
from fakes.simulation import Simulation
from mlflow_sysmetrics.sampling.collectors import COLLECTORS
from mlflow_sysmetrics.sampling.runner import CollectorRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_sysmetrics.host.host import Host

DATA = Path(__file__).parents[1] / "data"
ROOT_PID = 50
LATER_S = 300.0

PROCESS_FILES = r"proc/(50|70)/"
LIMITED = "container/.*|process/(cpu_share_seconds|memory_usage_percentage)"
CARRIES = {
    r"proc/stat": "cpu_(busy|total)_seconds",
    r"proc/meminfo": "(system_memory_|memory/swap_).*|process/memory_usage_percentage",
    r"proc/diskstats": "disk_(read|write)_bytes",
    r"proc/net/dev": "network_.*",
    r"proc/pressure/(\w+)": r"pressure/\1_.*",
    PROCESS_FILES + "stat": "process/.*",
    PROCESS_FILES + "statm": "process/memory_(rss|vms|usage)_.*",
    PROCESS_FILES + "io": "process/io_.*",
    PROCESS_FILES + "smaps_rollup": "process/memory_(uss|pss|swap)_.*",
    r"proc/50/(cgroup|status)|proc/self/mountinfo|sys/devices/system/cpu/online": LIMITED,
    r"sys/fs/cgroup/(cpu\.max|memory\.max|cpuset\..*)": LIMITED,
    r"sys/fs/cgroup/(\w+)\.pressure": r"container/pressure_\1_.*",
    r"sys/fs/cgroup/memory\.(current|stat)": "container/memory_.*",
    r"sys/fs/cgroup/memory\.events": "container/oom_kills",
    r"sys/fs/cgroup/cpu\.stat": "container/cpu_.*",
    r"sys/fs/cgroup/memory/memory\.(usage_in_bytes|stat)": "container/memory_.*",
    r"sys/fs/cgroup/memory/memory\.oom_control": "container/oom_kills",
    r"sys/fs/cgroup/cpu,cpuacct/cpu\.stat": "container/cpu_.*",
    r"sys/fs/cgroup/(cpu|memory)\S*/\S+(quota_us|period_us|limit_in_bytes)": LIMITED,
    r"sys/class/drm/card1/.*/gpu_busy_percent": "gpu(_0_|/)utilization_.*",
    r"sys/class/drm/card1/.*/mem_info_vram_used": "gpu(_0_|/)memory_usage_.*",
    r"sys/class/drm/card1/.*/power1_\w+": "gpu(_0_|_0/|/)(power|energy)_.*",
    r"sys/class/drm/card1/.*/temp\d_input": "gpu_0/(memory_)?temperature_celsius",
    r"sys/class/drm/card2/.*/energy\d_input": "gpu(_[0-9])?[_/](energy|power)_.*",
    r"sys/class/drm/card2/.*/act_freq": "gpu_[0-9]/sm_clock_megahertz",
    r"sys/class/drm/card2/.*/idle_residency_ms": "gpu(_[0-9]_|/)utilization_percentage",
}
"""What a file carries: a pattern of its path below the root, and one of readings."""

MAY_EXCEED_ALL = re.compile("process/memory_usage_percentage|.*power_usage_percentage")

GARBLED: dict[str, Callable[[bytes], bytes | None]] = {
    "cut": lambda content: content[: len(content) // 2],
    "cut at a line's end": lambda content: content[: content.rfind(b"\n", 0, -1) + 1],
    "empty": lambda _: b"",
    "only NUL bytes": lambda content: bytes(len(content)),
    "binary": lambda _: bytes(range(256)) * 8,
    "not UTF-8 before": lambda content: b"\xff\xfe \x80\n" + content,
    "not UTF-8 after": lambda content: content + b"\xff\xfe \x80\n",
    "a long line": lambda content: content + b"x" * 20_000 + b"\n",
    "a long line before": lambda content: b"9" * 20_000 + b"\n" + content,
    "words": lambda _: b"temporarily: not available\n" * 3,
    "negative": lambda content: re.sub(rb"(?<![\w.])(\d)", rb"-\1", content),
    "huge": lambda content: re.sub(rb"(?<![\w.])\d+", b"9" * 25, content),
    "64 bits": lambda content: re.sub(rb"(?<![\w.])\d+", str(2**64 - 1).encode(), content),
    "not numbers": lambda content: re.sub(rb"(?<![\w.])\d+", b"nan", content),
    "gone": lambda _: None,
}
HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "NUL bytes after its end": lambda content: content + bytes(300),
    "an odd line after it": lambda content: content + b"temporarily: not available\n",
    "all lines twice": lambda content: content * 2,
}
"""What costs a file of several lines nothing."""


class Recording:
    """The files below a root that this process has opened."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.files: set[str] = set()
        sys.addaudithook(self._audit)  # there is no way to take it out again

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and self.root is not None:
            path = str(arguments[0])
            if path.startswith(f"{self.root}/"):
                self.files.add(path.removeprefix(f"{self.root}/"))


RECORDING = Recording()


class Subject(NamedTuple):
    """A collector, and the files that it opens."""

    name: str
    files: list[str]
    healthy: dict[str, float]


KINDS = {
    "cgroup v2 and AMD": ("hosts/docker-v2", "gpus/mi300x"),
    "cgroup v1 and Intel": ("hosts/docker-v1", "gpus/arc-xe"),
}
ONLY = {"cgroup v1 and Intel": {"container", "intel"}}
"""The collectors that are tried on a host; all where it is not named."""


def build_host(root: Path, kind: str) -> Host:
    """A container on a machine with disks, pressure and two GPUs, and a tree of two processes."""
    clock = Simulation(time_s=1000.0)
    root.mkdir(parents=True, exist_ok=True)
    proc = FakeProc(root, clock)
    for pid, parent in ((ROOT_PID, 1), (70, ROOT_PID)):
        proc.run(pid, parent=parent, cpu=1.0, io=(4096, 8192))
        proc.tell_children(pid, (70,) if pid == ROOT_PID else ())
        rollup = "Rss:  100 kB\nPss:  50 kB\nPrivate_Clean:  10 kB\nPrivate_Dirty:  20 kB\n"
        (root / f"proc/{pid}/smaps_rollup").write_text(rollup)
    for part in KINDS[kind]:
        shutil.copytree(DATA / part, root, dirs_exist_ok=True)
    for name in ("cgroup", "status"):
        shutil.copy(root / "proc/self" / name, root / f"proc/{ROOT_PID}" / name)
    shutil.copy(DATA / "hosts/hybrid-recorded/proc/diskstats", root / "proc/diskstats")
    shutil.copytree(DATA / "hosts/hybrid-recorded/sys/block", root / "sys/block")
    (root / "proc/stat").write_text("cpu  500 5 200 9000 40 1 2 3 0 0\nintr 1 2 3\nctxt 5\n")
    (root / "proc/meminfo").write_text(
        "MemTotal: 16384256 kB\nMemFree: 1024000 kB\nMemAvailable: 9216000 kB\nBuffers: 9 kB\n"
        "Cached: 7168000 kB\nShmem: 1 kB\nActive: 1 kB\nInactive: 1 kB\nSlab: 1 kB\n"
        "SwapTotal: 2097148 kB\nSwapFree: 1048576 kB\n"
    )
    (root / "proc/net").mkdir()
    (root / "proc/net/dev").write_text(
        "Inter-|   Receive                 |  Transmit\n face |bytes    packets |bytes packets\n"
        "    lo:      11    1    0    0    0     0          0         0       12 1 0 0 0 0 0 0\n"
        "  eth0: 1296211 9385 0 0 0 0 0 0 504840 19180 0 0 0 0 0 0\n"
    )
    return replace(proc.host, pid=ROOT_PID)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def host(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = build_host(tmp_path, kind)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(host.procfs))
    return host


def _discover(root: Path, kind: str) -> Iterator[Subject]:
    """Each collector that the host has, with the files that it opens and all that it reads."""
    host = build_host(root, kind)
    before, psutil.PROCFS_PATH = psutil.PROCFS_PATH, str(host.procfs)
    try:
        for name, opener in COLLECTORS:
            if name not in ONLY.get(kind, {name}):
                continue
            RECORDING.files = set()
            RECORDING.root = host.root
            member = CollectorRunner(name, opener, host)
            ask(member, host)
            readings = ask(member, host)
            RECORDING.root = None
            files = sorted(each for each in RECORDING.files if (host.root / each).is_file())
            if readings:
                yield Subject(name, files, readings)
    finally:
        RECORDING.root = None
        psutil.PROCFS_PATH = before


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory, kind: str) -> list[Subject]:
    return list(_discover(tmp_path_factory.mktemp("host"), kind))


def ask(member: CollectorRunner, host: Host) -> dict[str, float]:
    """One sample, so much later that whatever was put off is tried again."""
    host.clock.pass_time(LATER_S)  # type: ignore[attr-defined] # a Simulation
    member.open()
    sample = member.sample(is_last=True)
    return sample.values if sample is not None else {}


def let_processes_work(host: Host) -> None:
    """Let them use a little CPU: what has done nothing is not read again."""
    for pid in (ROOT_PID, 70):
        path = host.procfs / f"{pid}/stat"
        worked = re.sub(r"( 100 0 0 0 )(\d+)", _one_tick_more, path.read_text())
        path.write_text(worked)


def _one_tick_more(match: re.Match[str]) -> str:
    return f"{match[1]}{int(match[2]) + 1}"


def carried_by(file: str, readings: dict[str, float]) -> set[str]:
    """The readings that a file carries; all of its collector where nothing says which."""
    for pattern, carried in CARRIES.items():
        match = re.fullmatch(pattern, file)
        if match is not None:
            wanted = re.compile(match.expand(carried))
            return {name for name in readings if wanted.fullmatch(name)}
    return set(readings)


def is_read_once(file: str) -> bool:
    """What a subject has and what bounds it is looked for as its collector opens."""
    limits = [pattern for pattern, carried in CARRIES.items() if carried == LIMITED]
    inventory = r"sys/class/(kfd/.*|drm/.*/(uevent|\w+_label|mem_info_vram_total))"
    return any(re.fullmatch(pattern, file) for pattern in (*limits, inventory))


def check(readings: dict[str, float], healthy: dict[str, float], may_lack: set[str]) -> None:
    assert healthy.keys() - readings.keys() <= may_lack
    assert readings.keys() <= healthy.keys()
    for name, value in readings.items():
        assert math.isfinite(value), name
        assert 0 <= value < 1e18, name
        if name.endswith("_percentage") and not MAY_EXCEED_ALL.fullmatch(name):
            assert value <= 100, name


def means_the_end(file: str, way: str) -> bool:
    """Without these the process has ended."""
    return way == "gone" and re.fullmatch(PROCESS_FILES + "statm?", file) is not None


def garble(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def test_the_hosts_have_what_is_to_be_garbled(tmp_path: Path) -> None:
    subjects = [each for kind in KINDS for each in _discover(tmp_path / kind, kind)]
    files = {file for subject in subjects for file in subject.files}

    assert {subject.name for subject in subjects} >= {
        "cpu", "memory", "disk", "network", "process_tree", "container", "pressure", "amd", "intel",
    }  # fmt: skip
    missing = [each for each in CARRIES if not any(re.fullmatch(each, file) for file in files)]
    assert not missing


@pytest.mark.parametrize("way", GARBLED)
def test_a_file_that_is_garbled_between_two_samples_costs_what_it_carries_until_it_is_well(
    way: str, host: Host, subjects: list[Subject]
) -> None:
    for subject in subjects:
        for file in subject.files:
            if means_the_end(file, way):
                continue
            member = CollectorRunner(subject.name, dict(COLLECTORS)[subject.name], host)
            ask(member, host)
            let_processes_work(host)
            path = host.root / file
            content = path.read_bytes()
            garble(path, GARBLED[way](content))
            try:
                garbled = ask(member, host)
            finally:
                path.write_bytes(content)
            well = [ask(member, host) for _ in range(2)][-1]

            try:
                check(garbled, subject.healthy, carried_by(file, subject.healthy))
                check(well, subject.healthy, set())
            except AssertionError as error:
                error.args = (f"{subject.name}, {file} {way}: {error}",)
                raise


@pytest.mark.parametrize("way", HARMLESS)
def test_what_a_kernel_adds_to_a_file_of_several_lines_costs_nothing(
    way: str, host: Host, subjects: list[Subject]
) -> None:
    for subject in subjects:
        for file in subject.files:
            path = host.root / file
            content = path.read_bytes()
            if content.count(b"\n") < 2 and way != "NUL bytes after its end":
                continue
            path.write_bytes(HARMLESS[way](content))
            member = CollectorRunner(subject.name, dict(COLLECTORS)[subject.name], host)
            try:
                ask(member, host)
                readings = ask(member, host)
            finally:
                path.write_bytes(content)

            assert readings.keys() == subject.healthy.keys(), file


@pytest.mark.parametrize("way", GARBLED)
def test_a_file_that_is_garbled_as_its_collector_opens_costs_no_other_reading(
    way: str, host: Host, subjects: list[Subject]
) -> None:
    for subject in subjects:
        for file in subject.files:
            if means_the_end(file, way):
                continue
            path = host.root / file
            content = path.read_bytes()
            garble(path, GARBLED[way](content))
            member = CollectorRunner(subject.name, dict(COLLECTORS)[subject.name], host)
            try:
                garbled = [ask(member, host) for _ in range(2)][-1]
            finally:
                path.write_bytes(content)
            well = [ask(member, host) for _ in range(3)][-1]

            try:
                assert subject.healthy.keys() - garbled.keys() <= carried_by(file, subject.healthy)
                if way != "gone" and not is_read_once(file):
                    check(well, subject.healthy, set())
            except AssertionError as error:
                error.args = (f"{subject.name}, {file} {way}: {error}",)
                raise
