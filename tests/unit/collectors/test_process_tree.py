"""The readings of a tree: over a made-up /proc, and against other observers of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest

from fakes.fake_proc import FakeProc
from mlflow_sysmetrics.catalog import metrics_of
from mlflow_sysmetrics.collectors.process_tree import open_process_tree
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.proc_clock import has_cpu_clocks
from mlflow_sysmetrics.sources.proc_pid import PAGE_BYTES
from mlflow_sysmetrics.sources.proc_tree import ProcTree
from mlflow_sysmetrics.sources.process_use import PrivateMemory
from mlflow_sysmetrics.sources.psutil_tree import PsutilTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.collectors.process_tree import ProcessTreeCollector

ROOT = 50
USS, PSS = "process/memory_uss_megabytes", "process/memory_pss_megabytes"


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    proc = FakeProc(tmp_path)
    proc.run(ROOT, cpu=5.0, waited=100.0, io=(1000, 2000), pages=300, threads=2, fds=4)
    proc.run(70, parent=ROOT, cpu=1.0, io=(10, 20), pages=200, fds=6)
    return proc


@pytest.fixture
def fake(proc: FakeProc) -> ProcessTreeCollector:
    return open_process_tree(replace(proc.host, pid=ROOT), cpus=4, memory_bytes=PAGE_BYTES * 1000)


def test_readings_of_a_tree(fake: ProcessTreeCollector) -> None:
    assert fake.collect() == {
        "process/cpu_seconds": 0.0,
        "process/cpu_share_seconds": 0.0,
        "process/io_read_bytes": 0.0,
        "process/io_write_bytes": 0.0,
        "process/memory_rss_megabytes": 500 * PAGE_BYTES / 1e6,
        "process/memory_vms_megabytes": 5000 * PAGE_BYTES / 1e6,
        "process/memory_usage_percentage": 50.0,
        "process/num_processes": 2,
        "process/num_threads": 3,
        "process/num_fds": 10,
    }


def test_all_readings_feed_metrics(fake: ProcessTreeCollector) -> None:
    assert all(metrics_of(name) for name in (*fake.collect(), USS, PSS))


def test_counters_rise_from_the_first_sample_on(proc: FakeProc, fake: ProcessTreeCollector) -> None:
    fake.collect()
    proc.run(ROOT, cpu=6.0, waited=100.5, io=(1001, 2002))

    readings = fake.collect()

    assert readings["process/cpu_seconds"] == 1.5
    assert readings["process/cpu_share_seconds"] == 1.5 / 4
    assert readings["process/io_read_bytes"] == 1
    assert readings["process/io_write_bytes"] == 2


def test_what_no_process_tells_has_no_key(tmp_path: Path, mocker: MockerFixture) -> None:
    proc = FakeProc(tmp_path)
    proc.run(ROOT, io=None)
    mocker.patch.object(ProcTree, "_fds_in", return_value=None)

    names = open_process_tree(replace(proc.host, pid=ROOT)).collect().keys()

    assert not {name for name in names if "io_" in name or "fds" in name}


def test_a_zombie_is_no_process(proc: FakeProc, fake: ProcessTreeCollector) -> None:
    proc.run(70, parent=ROOT, state="Z")

    readings = fake.collect()

    assert (readings["process/num_processes"], readings["process/num_threads"]) == (1, 2)


def test_a_root_that_nobody_waited_for_gives_its_counters_once(
    proc: FakeProc, fake: ProcessTreeCollector
) -> None:
    before = fake.collect()
    proc.run(ROOT, state="Z", cpu=100.0)

    last = fake.collect()

    assert {"process/cpu_seconds", "process/cpu_share_seconds"} <= last.keys()
    assert not any(name.endswith("megabytes") or "num_" in name for name in last)
    assert last["process/cpu_seconds"] > before["process/cpu_seconds"]
    with pytest.raises(Unavailable, match="has ended"):
        fake.collect()


def test_a_root_that_has_ended_is_unavailable(proc: FakeProc, fake: ProcessTreeCollector) -> None:
    fake.collect()
    proc.end(ROOT)

    with pytest.raises(Unavailable, match="has ended"):
        fake.collect()


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_there_is_no_tree_without_a_root(tmp_path: Path, system: str) -> None:
    nobody = subprocess.Popen([sys.executable, "-c", ""])
    nobody.wait()

    with pytest.raises(Unavailable):
        open_process_tree(Host(root=tmp_path, system=system, pid=nobody.pid))


def test_shares_are_of_the_limits_of_the_process(proc: FakeProc) -> None:
    (proc.root / f"proc/{ROOT}/status").write_text("Cpus_allowed_list:\t0-1\n")
    (proc.root / f"proc/{ROOT}/cgroup").write_text("0::/\n")
    (proc.root / "proc/self").mkdir()
    (proc.root / "proc/self/mountinfo").write_text("35 31 0:32 / /cg rw - cgroup2 none rw\n")
    (proc.root / "cg").mkdir()
    (proc.root / "cg/memory.max").write_text(str(PAGE_BYTES * 2000))
    collector = open_process_tree(replace(proc.host, pid=ROOT))
    collector.collect()
    proc.run(70, parent=ROOT, cpu=2.0, pages=700)

    readings = collector.collect()

    assert readings["process/cpu_share_seconds"] == 0.5
    assert readings["process/memory_usage_percentage"] == 50.0


# USS and PSS


@pytest.fixture
def dear(mocker: MockerFixture) -> Callable[[float], None]:
    """Let reading USS and PSS give something, and cost as much as is said."""
    mocker.patch.object(ProcTree, "private_memory", return_value=PrivateMemory(1000000, 2000000))
    thread_time = mocker.patch("time.thread_time")

    def cost(seconds: float) -> None:
        thread_time.side_effect = lambda: thread_time.call_count * seconds

    cost(0.05)
    return cost


@pytest.mark.usefixtures("dear")
def test_private_memory_is_read_at_first_and_then_as_its_cost_allows(
    proc: FakeProc, fake: ProcessTreeCollector
) -> None:
    readings = fake.collect()
    assert (readings[USS], readings[PSS]) == (1, 2)

    given = {}
    for second in (1, 100, 190, 210, 220, 290, 310):
        proc.clock.time_s = 1000.0 + second
        given[second] = USS in fake.collect()

    # 0.05 % of 200 seconds pay for 0.1 seconds: this reading and the first.
    assert given == {
        1: False,
        100: False,
        190: False,
        210: True,
        220: False,
        290: False,
        310: True,
    }


def test_descriptors_are_a_share_of_the_limit_of_the_process_that_has_most(
    proc: FakeProc, fake: ProcessTreeCollector
) -> None:
    def limit(number: int) -> None:
        line = f"Max open files            {number}                 4096              files\n"
        (proc.root / f"proc/{ROOT}/limits").write_text(line)

    limit(20)
    proc.run(ROOT, fds=15)
    assert fake.collect()["process/fds_usage_percentage"] == 75

    limit(60)  # as a program does that needs more
    assert fake.collect()["process/fds_usage_percentage"] == 25


@pytest.mark.usefixtures("dear")
def test_the_last_sample_has_private_memory(fake: ProcessTreeCollector) -> None:
    fake.collect()
    assert USS not in fake.collect()

    fake.expect_last()

    assert USS in fake.collect()
    assert USS not in fake.collect()


def test_unless_that_is_very_dear(
    fake: ProcessTreeCollector, dear: Callable[[float], None]
) -> None:
    dear(0.2)
    fake.collect()
    fake.expect_last()

    assert USS not in fake.collect()


def test_of_a_huge_tree_private_memory_is_not_even_read_at_first(proc: FakeProc) -> None:
    proc.run(70, parent=ROOT, pages=10**11 // PAGE_BYTES)

    assert USS not in open_process_tree(replace(proc.host, pid=ROOT)).collect()


# Against others, on the machine itself


class Script(NamedTuple):
    """A real process that works in steps: it says a line after each and waits for the word."""

    process: subprocess.Popen[str]

    def next(self) -> str:
        """Let it take one step; what it says about it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def start() -> Iterator[Callable[[str], Script]]:
    scripts: list[Script] = []

    def start_script(code: str) -> Script:
        head = (
            "import os, sys, time, subprocess\ndef say(what='done'):\n  print(what, flush=True)\n"
        )
        head += "  sys.stdin.readline() or os._exit(0)\nsys.stdin.readline()\n"
        process = subprocess.Popen(
            [sys.executable, "-c", head + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        scripts.append(Script(process))
        return scripts[-1]

    yield start_script
    for script in scripts:
        script.process.kill()
        script.process.communicate()


WITH_CHILDREN = """
kid = [sys.executable, '-c', 'print(flush=True); input()']
kids = [subprocess.Popen(kid, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
for kid in kids: kid.stdout.readline()
say()
"""


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_members_and_their_gauges_are_those_of_psutil(
    start: Callable[[str], Script], system: str
) -> None:
    script = start(WITH_CHILDREN)
    script.next()
    root = psutil.Process(script.process.pid)
    family = [root, *root.children(recursive=True)]

    readings = open_process_tree(Host(system=system, pid=root.pid)).collect()

    assert readings["process/num_processes"] == len(family) == 4
    assert readings["process/num_threads"] == sum(each.num_threads() for each in family)
    assert readings["process/num_fds"] == sum(each.num_fds() for each in family)
    rss, uss, pss = (
        sum(getattr(each.memory_full_info(), kind) for each in family) / 1e6
        for kind in ("rss", "uss", "pss")
    )
    assert readings["process/memory_rss_megabytes"] == pytest.approx(rss, rel=0.02)
    assert readings[USS] == pytest.approx(uss, rel=0.05)
    assert readings.get(PSS, pss) == pytest.approx(pss, rel=0.05)


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_a_child_that_burns_a_known_time(start: Callable[[str], Script], system: str) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True); input()"
    script = start(
        f"kid = [sys.executable, '-c', {burn!r}]\nsay('ready')\n"
        "kid = subprocess.Popen(kid, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "kid.stdout.readline()\nsay()\nkid.communicate(b'x'); say()"
    )
    script.next()
    collector = open_process_tree(Host(system=system, pid=script.process.pid))
    collector.collect()

    script.next()
    burnt_s = collector.collect()["process/cpu_seconds"]
    script.next()
    after_its_end_s = collector.collect()["process/cpu_seconds"]

    assert burnt_s == pytest.approx(0.5, abs=0.06)  # its parent started it and waited
    assert burnt_s <= after_its_end_s < burnt_s + 0.1


@pytest.mark.skipif(not has_cpu_clocks(Host()), reason="this kernel tells CPU time in ticks only")
def test_cpu_time_is_told_finer_than_the_kernels_ticks(start: Callable[[str], Script]) -> None:
    script = start("say(time.process_time())\nsum(range(5_000_000)); say(time.process_time())")
    before_s = float(script.next())
    collector = open_process_tree(Host(pid=script.process.pid))
    before = collector.collect()["process/cpu_seconds"]

    spent_s = float(script.next()) - before_s

    spent = collector.collect()["process/cpu_seconds"] - before
    assert spent == pytest.approx(spent_s, abs=0.2 / os.sysconf("SC_CLK_TCK"))


def test_a_known_allocation(start: Callable[[str], Script]) -> None:
    script = start("say()\nkept = bytearray(b'x') * 200_000_000\nsay()")
    script.next()
    before = open_process_tree(Host(pid=script.process.pid)).collect()

    script.next()
    after = open_process_tree(Host(pid=script.process.pid)).collect()

    for name in ("process/memory_rss_megabytes", USS, PSS):
        assert after[name] - before[name] == pytest.approx(200, rel=0.02)


def test_a_file_of_known_size(start: Callable[[str], Script]) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        write = f"f = open({folder!r} + '/f', 'wb'); f.write(bytes(20_000_000)); f.flush();"
        write += "import os; os.fsync(f.fileno())"
        script = start(f"say()\nsubprocess.run([sys.executable, '-c', {write!r}]); say()")
        script.next()
        collector = open_process_tree(Host(pid=script.process.pid))
        collector.collect()

        script.next()

        written = collector.collect()["process/io_write_bytes"]
        assert written == pytest.approx(20_000_000, rel=0.05)


SHORT_LIVED = """
import resource
def used():
  both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
  return sum(each.ru_utime + each.ru_stime for each in both)
def burn():
  while time.process_time() < 0.005: pass
def child(stays):
  if pid := os.fork(): return pid
  burn()
  if stays: os.write(ready[1], b'.'); os.read(go[0], 1); burn()
  os._exit(0)
ready, go = os.pipe(), os.pipe()
say(used())
for batch in range(10):
  for pid in [child(False) for _ in range(18)]: os.waitpid(pid, 0)
  stay = [child(True) for _ in range(2)]
  for _ in stay: os.read(ready[0], 1)
  say(batch)
  for _ in stay: os.write(go[1], b'.')
  for pid in stay: os.waitpid(pid, 0)
say(used())
"""


def test_many_short_lived_children_are_all_counted_once(start: Callable[[str], Script]) -> None:
    script = start(SHORT_LIVED)
    before_s = float(script.next())
    collector = open_process_tree(Host(pid=script.process.pid))
    totals = [collector.collect()["process/cpu_seconds"]]
    processes = []

    for _ in range(10):
        script.next()
        readings = collector.collect()
        totals.append(readings["process/cpu_seconds"])
        processes.append(readings["process/num_processes"])
    kernels_s = float(script.next()) - before_s
    totals.append(collector.collect()["process/cpu_seconds"])

    assert totals == sorted(totals)
    assert processes == [3] * 10
    assert totals[-1] == pytest.approx(kernels_s, rel=0.05, abs=3 / os.sysconf("SC_CLK_TCK"))


def test_an_orphan_stays_in_the_tree(start: Callable[[str], Script]) -> None:
    orphan = "print(flush=True); input()"
    middle = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', "
        f"{orphan!r}]).pid, flush=True); input()"
    )
    script = start(
        f"kid = subprocess.Popen([sys.executable, '-c', {middle!r}], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE, text=True)\n"
        "lines = kid.stdout.readline() + kid.stdout.readline(); say(lines.strip())\n"
        "kid.kill(); kid.wait(); say()"
    )
    orphan_pid = int(script.next())
    collector = open_process_tree(Host(pid=script.process.pid))
    assert collector.collect()["process/num_processes"] == 3

    script.next()

    assert psutil.Process(orphan_pid).ppid() != script.process.pid
    assert collector.collect()["process/num_processes"] == 2


def test_this_process_is_the_root_where_none_is_named() -> None:
    readings = open_process_tree(Host(), children=False).collect()

    assert readings["process/num_threads"] == psutil.Process().num_threads()


# psutil's way


def test_psutil_keeps_a_process_that_cannot_be_read_for_a_moment(
    start: Callable[[str], Script], mocker: MockerFixture
) -> None:
    script = start(WITH_CHILDREN)
    script.next()
    tree = PsutilTree(script.process.pid)
    first = tree.sample()
    denied = mocker.patch.object(psutil.Process, "memory_info", side_effect=psutil.AccessDenied)

    assert tree.sample() == first

    mocker.stop(denied)
    script.process.kill()
    script.process.wait()
    with pytest.raises(Unavailable):
        tree.sample()


def test_psutil_without_storage_counters_and_uss(
    start: Callable[[str], Script], mocker: MockerFixture
) -> None:
    script = start("say()")
    script.next()
    mocker.patch.object(psutil.Process, "io_counters", side_effect=psutil.AccessDenied)
    mocker.patch.object(psutil.Process, "num_fds", side_effect=psutil.AccessDenied)
    mocker.patch.object(psutil.Process, "memory_full_info", side_effect=psutil.AccessDenied)

    names = open_process_tree(Host(system="Darwin", pid=script.process.pid)).collect().keys()

    assert "process/memory_rss_megabytes" in names
    assert not {name for name in names if "io_" in name or "fds" in name or name in {USS, PSS}}
