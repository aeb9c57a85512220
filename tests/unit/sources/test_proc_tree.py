"""Who is in a tree, over a made-up /proc."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fakes.fake_proc import FakeProc
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import proc_discovery, proc_listing, proc_tree
from mlflow_sysmetrics.sources.kernel_file import KernelFile
from mlflow_sysmetrics.sources.proc_discovery import ProcessDiscovery
from mlflow_sysmetrics.sources.proc_pid import CLOCK_TICKS, PAGE_BYTES
from mlflow_sysmetrics.sources.proc_tree import ProcTree

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

ROOT = 50


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    """The root process, and init."""
    proc = FakeProc(tmp_path)
    proc.run(1, 0)
    proc.run(ROOT)
    return proc


def pids(tree: ProcTree) -> list[int]:
    return [use.pid for use in tree.sample()]


def test_all_descendants_are_in_the_tree_parents_first(proc: FakeProc) -> None:
    proc.run(40, parent=60)
    proc.run(60, parent=ROOT)
    proc.run(61, parent=1)
    proc.run(62, parent=61)

    assert pids(ProcTree(proc.host, ROOT)) == [ROOT, 60, 40]


def test_a_later_child_joins(proc: FakeProc) -> None:
    tree = ProcTree(proc.host, ROOT)
    assert pids(tree) == [ROOT]

    proc.run(70, parent=ROOT)

    assert pids(tree) == [ROOT, 70]


def test_the_trees_of_further_roots_count_from_when_they_are_known(proc: FakeProc) -> None:
    proc.run(80, parent=1)
    proc.run(81, parent=80)
    proc.run(90, parent=1)
    roots: list[int] = []
    tree = ProcTree(replace(proc.host, more_roots=lambda: roots), ROOT)
    assert pids(tree) == [ROOT]

    roots.append(80)

    assert pids(tree) == [ROOT, 80, 81]
    proc.run(82, parent=81)
    assert pids(tree) == [ROOT, 80, 81, 82]


def test_the_launcher_of_a_root_brings_all_that_it_has_started(proc: FakeProc) -> None:
    proc.run(40, parent=1)
    proc.run(ROOT, parent=40)
    proc.run(51, parent=40)

    tree = ProcTree(replace(proc.host, more_roots=lambda: [40]), ROOT)

    assert sorted(pids(tree)) == [40, ROOT, 51]


def test_the_pid_of_a_further_root_that_has_ended_may_be_a_strangers(proc: FakeProc) -> None:
    proc.run(80, parent=1)
    tree = ProcTree(replace(proc.host, more_roots=lambda: [80]), ROOT)
    assert pids(tree) == [ROOT, 80]
    proc.end(80)
    assert pids(tree) == [ROOT]

    proc.run(80, parent=1)

    assert pids(tree) == [ROOT]


def test_an_orphan_stays_with_its_children(proc: FakeProc) -> None:
    proc.run(70, parent=ROOT)
    proc.run(71, parent=70)
    tree = ProcTree(proc.host, ROOT)
    assert pids(tree) == [ROOT, 70, 71]

    proc.end(70)
    proc.run(71, parent=1)
    proc.run(72, parent=71)

    assert pids(tree) == [ROOT, 71, 72]


def test_a_reused_pid_is_another_process(proc: FakeProc) -> None:
    proc.run(70, parent=ROOT)
    tree = ProcTree(proc.host, ROOT)
    assert pids(tree) == [ROOT, 70]

    proc.end(70)
    proc.run(70, parent=1, start=950)

    assert pids(tree) == [ROOT]
    assert pids(tree) == [ROOT]


def test_a_reused_pid_may_be_a_child_again(proc: FakeProc) -> None:
    proc.run(70, parent=ROOT)
    tree = ProcTree(proc.host, ROOT)
    tree.sample()

    proc.end(70)
    proc.run(70, parent=ROOT, start=950)
    tree.sample()

    assert [use.start for use in tree.sample()[1:]] == [950 * CLOCK_TICKS]


@pytest.mark.parametrize("known_before", [False, True])
def test_what_was_read_of_an_outsider_is_not_read_again(
    proc: FakeProc, mocker: MockerFixture, *, known_before: bool
) -> None:
    proc.run(80)
    tree = ProcTree(proc.host, ROOT)
    if known_before:
        tree.sample()
    read = mocker.spy(proc_listing, "read_kernel_file")

    tree.sample()

    asked_for_80 = mocker.call(f"{proc.root}/proc/80/stat") in read.call_args_list
    assert asked_for_80 is not known_before


def test_a_child_whose_parent_ended_during_the_look_is_looked_at_again(proc: FakeProc) -> None:
    proc.run(81, parent=79)
    tree = ProcTree(proc.host, ROOT)
    assert pids(tree) == [ROOT]

    proc.run(81, parent=ROOT)  # which adopts what its descendants leave

    assert pids(tree) == [ROOT, 81]


@pytest.mark.parametrize("threads_of_tree", [1, 10_000])
def test_children_are_those_of_all_threads(
    proc: FakeProc, mocker: MockerFixture, threads_of_tree: int
) -> None:
    """Whether threads are asked or, where they are too many, all processes listed."""
    mocker.patch.object(ProcessDiscovery, "_processes_on_host", return_value=1000)
    for pid, parent in {70: ROOT, 71: ROOT, 72: 71, 73: 1}.items():
        proc.run(pid, parent)
        proc.tell_children(pid, (72,) if pid == 71 else ())
    proc.tell_children(ROOT, (70,), (71,))
    list_all = mocker.spy(ProcessDiscovery, "_by_listing")

    newcomers = ProcessDiscovery(proc.host, ROOT).find({ROOT: threads_of_tree}, [])

    assert sorted(newcomers) == [70, 71, 72]
    assert newcomers.index(71) < newcomers.index(72)
    assert list_all.call_count == (threads_of_tree > 1)


def test_a_process_that_ends_while_its_children_are_asked_for_has_none(
    proc: FakeProc, mocker: MockerFixture
) -> None:
    mocker.patch.object(ProcessDiscovery, "_processes_on_host", return_value=1000)
    proc.tell_children(ROOT, (70,))  # and 70 is gone

    assert ProcessDiscovery(proc.host, ROOT).find({ROOT: 1}, []) == [70]
    assert pids(ProcTree(proc.host, ROOT)) == [ROOT]


class LastPid:
    """Lets the kernel have given out pids up to one."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.is_now = 0
        mocker.patch.object(ProcessDiscovery, "_read_last_pid", side_effect=lambda: self.is_now)


@pytest.fixture
def last_pid(mocker: MockerFixture) -> LastPid:
    return LastPid(mocker)


def test_there_is_no_look_while_no_pid_was_given_out_but_for_every_eighth_time(
    proc: FakeProc, mocker: MockerFixture, last_pid: LastPid
) -> None:
    look = mocker.spy(ProcessDiscovery, "_by_listing")
    read = mocker.spy(proc_discovery, "read_kernel_file")
    newcomers = ProcessDiscovery(proc.host, ROOT)
    last_pid.is_now = 77

    for _ in range(9):
        newcomers.prepare()
        newcomers.find({ROOT: 1}, [])

    assert look.call_count == 2
    assert not read.called


def test_only_the_pids_given_out_since_the_last_look_are_looked_at(
    proc: FakeProc, mocker: MockerFixture, last_pid: LastPid
) -> None:
    last_pid.is_now = 69
    tree = ProcTree(proc.host, ROOT)
    tree.sample()
    look = mocker.spy(ProcessDiscovery, "_by_listing")
    proc.run(70, parent=ROOT)
    proc.run(71, parent=70)
    proc.run(72, parent=1)
    proc.run(74, parent=ROOT)  # after it was looked which pid is the last

    last_pid.is_now = 73
    assert pids(tree) == [ROOT, 70, 71]
    last_pid.is_now = 74
    assert pids(tree) == [ROOT, 70, 71, 74]
    assert not look.called


def test_a_thread_is_no_process_though_proc_shows_it_by_its_id(
    proc: FakeProc, last_pid: LastPid
) -> None:
    """That of a child, whose parent is the root."""
    last_pid.is_now = 69
    tree = ProcTree(proc.host, ROOT)
    tree.sample()
    proc.run(70, parent=ROOT)
    stat = proc.root / "proc/70/stat"
    until_pages = stat.read_text().rpartition(" ")[0]  # the 24th field is the last of these
    stat.write_text(f"{until_pages} {'0 ' * 13}-1 1 0 0\n")
    last_pid.is_now = 70

    assert pids(tree) == [ROOT]


@pytest.mark.parametrize("now", [69 + 65, 3], ids=["too many", "from the beginning again"])
def test_where_pids_do_not_tell_all_processes_are_listed(
    proc: FakeProc, last_pid: LastPid, now: int
) -> None:
    last_pid.is_now = 69
    tree = ProcTree(proc.host, ROOT)
    tree.sample()
    proc.run(70, parent=ROOT)
    last_pid.is_now = now

    assert pids(tree) == [ROOT, 70]


def test_only_who_was_awake_is_asked_but_for_every_eighth_time_and_when_one_has_ended(
    proc: FakeProc, mocker: MockerFixture
) -> None:
    mocker.patch.object(ProcessDiscovery, "_processes_on_host", return_value=1000)
    proc.tell_children(ROOT, (70,))
    proc.tell_children(70, ())
    newcomers = ProcessDiscovery(proc.host, ROOT)
    ask = mocker.patch.object(ProcessDiscovery, "_children_of", return_value=[])

    def asked() -> list[int]:
        ask.reset_mock()
        newcomers.find({ROOT: 1, 70: 1}, [70])
        return [call.args[0] for call in ask.call_args_list]

    all_members = [ROOT, 70]
    assert [asked() for _ in range(9)] == [all_members, *[[70]] * 7, all_members]
    newcomers.forget(71)
    assert [asked(), asked()] == [all_members, [70]]


def test_a_recorded_tree_does_not_tell_the_last_pid(proc: FakeProc) -> None:
    discovery = ProcessDiscovery(proc.host, ROOT)

    assert discovery._read_last_pid() is None


# What is told of a process


def test_what_a_process_uses(proc: FakeProc) -> None:
    proc.run(ROOT, cpu=1.5, waited=2.5, io=(10, 20), threads=4, pages=7, fds=5)

    (use,) = ProcTree(proc.host, ROOT).sample()

    assert (use.cpu_s, use.reaped_cpu_s) == (1.5, 2.5)
    assert (use.read_bytes, use.write_bytes) == (10, 20)
    assert (use.rss_bytes, use.vms_bytes) == (7 * PAGE_BYTES, 70 * PAGE_BYTES)
    assert (use.threads, use.fds) == (4, 5)


def test_alone_the_root_has_neither_children_nor_their_time(proc: FakeProc) -> None:
    proc.run(ROOT, cpu=1.5, waited=2.5)
    proc.run(70, parent=ROOT)

    (use,) = ProcTree(proc.host, ROOT, children=False).sample()

    assert (use.cpu_s, use.reaped_cpu_s) == (1.5, 0.0)


def test_a_zombie_has_only_its_counters(proc: FakeProc) -> None:
    proc.run(70, parent=ROOT, io=(10, 20), cpu=1.0)
    tree = ProcTree(proc.host, ROOT)
    tree.sample()
    (proc.root / "proc/70/io").unlink()

    proc.run(70, parent=ROOT, io=None, cpu=2.0, state="Z")

    zombie = tree.sample()[1]
    assert (zombie.threads, zombie.rss_bytes, zombie.fds) == (0, 0, 0)
    assert (zombie.cpu_s, zombie.read_bytes, zombie.write_bytes) == (2.0, 10, 20)


def test_a_process_that_has_given_up_its_memory_is_ending(proc: FakeProc) -> None:
    proc.run(70, parent=ROOT, threads=2, pages=0, cpu=2.0)
    proc.tell_threads(70, 0, 0)

    ending = ProcTree(proc.host, ROOT).sample()[1]

    assert (ending.threads, ending.rss_bytes, ending.vms_bytes, ending.fds) == (0, 0, 0, 0)
    assert ending.cpu_s == 2.0


def test_a_root_that_is_ending_comes_until_its_counters_are_complete(proc: FakeProc) -> None:
    tree = ProcTree(proc.host, ROOT)
    proc.run(ROOT, pages=0, cpu=2.0)
    assert [use.cpu_s for use in tree.sample()] == [2.0]
    proc.run(ROOT, state="Z", cpu=3.0)
    assert [use.cpu_s for use in tree.sample()] == [3.0]

    with pytest.raises(Unavailable, match="has ended"):
        tree.sample()


def test_where_the_main_thread_has_ended_another_tells_what_is_held(proc: FakeProc) -> None:
    proc.run(ROOT, state="Z", threads=2)
    proc.tell_threads(ROOT, 0, 7, fds=5)

    (use,) = ProcTree(proc.host, ROOT).sample()

    assert (use.rss_bytes, use.vms_bytes) == (7 * PAGE_BYTES, 70 * PAGE_BYTES)
    assert (use.threads, use.fds) == (2, 5)


def test_storage_counters_that_may_not_be_read_are_none(proc: FakeProc) -> None:
    proc.run(70, parent=ROOT, io=None)

    assert [use.read_bytes for use in ProcTree(proc.host, ROOT).sample()] == [0, None]


def test_what_may_not_be_read_costs_only_itself(proc: FakeProc, mocker: MockerFixture) -> None:
    proc.run(70, parent=ROOT)
    proc.run(71, parent=ROOT)
    refuse(mocker, proc, "70/io", "70/fd", "71/stat")

    root, child = ProcTree(proc.host, ROOT).sample()

    assert (root.read_bytes, root.fds) == (0, 3)
    assert (child.pid, child.read_bytes, child.fds) == (70, None, None)


def test_the_system_running_out_of_descriptors_is_not_the_end_of_a_process(
    proc: FakeProc, mocker: MockerFixture
) -> None:
    tree = ProcTree(proc.host, ROOT)
    tree.sample()
    read = mocker.patch.object(KernelFile, "read", side_effect=OSError(24, "too many"))

    with pytest.raises(OSError, match="too many"):
        tree.sample()

    mocker.stop(read)
    assert pids(tree) == [ROOT]


def test_an_idle_process_is_read_in_full_only_every_thirty_second_time(
    proc: FakeProc, mocker: MockerFixture
) -> None:
    tree = ProcTree(proc.host, ROOT)
    tree.sample()
    count = mocker.spy(ProcTree, "_transfers_of")

    for _ in range(64):
        tree.sample()
    assert count.call_count == 2

    proc.run(ROOT, cpu=0.01, io=(5, 0))
    assert tree.sample()[0].read_bytes == 5


def test_who_has_run_is_asked_for_children_though_its_stat_is_the_same(
    proc: FakeProc, mocker: MockerFixture
) -> None:
    """As with `vfork`, which takes the parent no page fault, and less time than `stat` tells."""
    clocks = {ROOT: 1, 70: 1, 71: 1}
    mocker.patch.object(proc_tree, "has_cpu_clocks", return_value=True)
    mocker.patch.object(proc_tree, "process_clock_ns", clocks.get)
    mocker.patch.object(ProcessDiscovery, "_processes_on_host", return_value=1000)
    proc.tell_children(ROOT, ())
    tree = ProcTree(proc.host, ROOT)
    assert pids(tree) == [ROOT]

    proc.run(70, parent=ROOT)
    proc.tell_children(ROOT, (70,))
    assert pids(tree) == [ROOT]
    clocks[ROOT] = 2
    assert pids(tree) == [ROOT, 70]


def test_nothing_is_read_of_a_process_whose_clock_stands_still(
    proc: FakeProc, mocker: MockerFixture
) -> None:
    proc.run(70, parent=ROOT)
    clocks = {ROOT: 10**9, 70: 10**9}
    mocker.patch.object(proc_tree, "has_cpu_clocks", return_value=True)
    mocker.patch.object(proc_tree, "process_clock_ns", clocks.get)
    mocker.patch.object(proc_tree, "_REREAD_APART", 1000)
    tree = ProcTree(proc.host, ROOT)
    tree.sample()
    read = mocker.spy(ProcTree, "_read_file")

    tree.sample()
    assert read.call_count == 0

    proc.run(70, parent=ROOT, cpu=2.0)
    clocks[70] = 2 * 10**9
    assert [use.cpu_s for use in tree.sample()] == [1.0, 2.0]

    proc.run(ROOT, threads=2)  # were its clock to lie
    proc.end(70)
    clocks[70] = 3 * 10**9
    assert [use.threads for use in tree.sample()] == [1]
    assert [use.threads for use in tree.sample()] == [2], "after an end all are looked at"


@pytest.mark.parametrize("how", ["gone", "reused"])
def test_the_end_of_the_root_is_told_again_and_again(proc: FakeProc, how: str) -> None:
    tree = ProcTree(proc.host, ROOT)
    if how == "gone":
        proc.end(ROOT)
    else:
        proc.run(ROOT, start=950.0)

    for _ in range(2):
        with pytest.raises(Unavailable, match="50 has ended"):
            tree.sample()


def test_a_root_that_nobody_waited_for_comes_once_more(proc: FakeProc) -> None:
    tree = ProcTree(proc.host, ROOT)
    proc.run(ROOT, state="Z", cpu=7.5)

    [root] = tree.sample()
    assert (root.cpu_s, root.threads) == (7.5, 0)

    for _ in range(2):
        with pytest.raises(Unavailable, match="50 has ended"):
            tree.sample()


def test_there_is_no_tree_of_a_process_that_does_not_exist(proc: FakeProc) -> None:
    with pytest.raises(Unavailable, match="no process 99"):
        ProcTree(proc.host, 99)


def test_private_memory_is_summed_over_those_that_tell_it(proc: FakeProc) -> None:
    proc.run(70, parent=ROOT)
    proc.run(71, parent=ROOT)
    tree = ProcTree(proc.host, ROOT)
    tree.sample()
    assert tree.private_memory() is None

    for pid in (ROOT, 70):
        rollup = "Pss:      30 kB\nPrivate_Clean:  1 kB\nPrivate_Dirty:  9 kB\nSwapPss: 5 kB\n"
        (proc.root / f"proc/{pid}/smaps_rollup").write_text(rollup)

    assert tree.private_memory() == (20 * 1024, 60 * 1024, 10 * 1024)


def refuse(mocker: MockerFixture, proc: FakeProc, *paths: str) -> None:
    """Let the kernel refuse to open these files of processes, whoever asks."""
    refused = {f"{proc.root}/proc/{path}" for path in paths}

    def guarded(function: str) -> None:
        real = getattr(os, function)

        def call(path: str, *args: object, **kwargs: object) -> object:
            if path in refused:
                raise PermissionError(13, "denied", path)
            return real(path, *args, **kwargs)

        mocker.patch(f"os.{function}", call)

    guarded("open")
    guarded("listdir")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_closed_tree_holds_no_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are counted
    tree = ProcTree(Host(), os.getpid())
    tree.sample()
    assert len(os.listdir("/proc/self/fd")) > before  # noqa: PTH208 - as above

    tree.close()
    tree.close()

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above
