"""Who belongs to the process tree, and what of its writing reached the disk: reported elsewhere.

skypilot#9672, netdata#635: a job starts its server in the background through a shell that ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from fakes.fake_proc import FakeProc
from mlflow_sysmetrics.collectors.process_tree import open_process_tree
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.cgroup_paths import find_cgroup
from mlflow_sysmetrics.sources.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

TRAINING = """\
import os, signal, subprocess, sys, time
for line in sys.stdin:
    answer = ""
    exec(line)
    print(answer, flush=True)
"""
"""Runs each line that it is given, and answers when it has."""

BACKGROUND = {
    "shell": "os.system(server + ' &')",
    "nohup": "subprocess.run(['sh', '-c', 'nohup ' + server + ' >/dev/null 2>&1 &'])",
    "disown": "subprocess.run(['bash', '-c', server + ' & disown'])",
    "session": "subprocess.run(['sh', '-c', server + ' &'], start_new_session=True)",
}
"""How a process gets into the background, and whoever started it has ended."""

DAEMONS = {
    "setsid": "os.system('setsid ' + server + ' &')",
    "daemon": (
        "subprocess.run([sys.executable, '-c', 'import os, sys\\nif os.fork(): os._exit(0)\\n"
        "os.setsid()\\nif os.fork(): os._exit(0)\\nos.execv(sys.argv[1], sys.argv[1:])', server])"
    ),
}
"""The same, in a session of its own."""


class Training:
    """A process that does what it is told."""

    def __init__(self, command: Sequence[str], *, own_session: bool) -> None:
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", TRAINING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=own_session,
        )

    def do(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer.endswith("\n")
        return answer.strip()


class Servers:
    """A program that writes down its pid and sleeps; all of them end with the test."""

    def __init__(self, folder: Path) -> None:
        self._pids = folder / "pids"
        self._pids.touch()
        self.program = folder / "server"
        self.program.write_text(
            f"#!/bin/sh\necho $$ >>{self._pids}\nexec sleep 60 >/dev/null 2>&1\n"
        )
        self.program.chmod(0o755)

    def orphans(self, count: int = 1) -> set[int]:
        """Those that were started, once so many run and an ancestor of this process has them."""
        adopters = {process.pid for process in psutil.Process().parents()}
        pids: set[int] = set()
        while len(pids) < count or any(psutil.Process(pid).ppid() not in adopters for pid in pids):
            time.sleep(0.01)
            pids = {int(line) for line in self._pids.read_text().split()}
        return pids

    def end(self) -> None:
        for pid in self._pids.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    yield servers
    servers.end()


@pytest.fixture
def train(servers: Servers) -> Iterator[Callable[..., Training]]:
    started: list[Training] = []

    def start(*command: str, own_session: bool = True) -> Training:
        training = Training(command, own_session=own_session)
        started.append(training)
        training.do(f"server = {str(servers.program)!r}")
        return training

    yield start
    for training in started:
        training.process.communicate()  # it ends with its input


def tree_of(training: Training) -> ProcTree:
    """Its tree, looked at once."""
    tree = ProcTree(Host(pid=training.process.pid), training.process.pid)
    tree.sample()
    return tree


def pids(tree: ProcTree) -> set[int]:
    return {use.pid for use in tree.sample()}


@pytest.mark.parametrize("way", BACKGROUND)
def test_what_the_training_starts_in_the_background_is_counted(
    train: Callable[..., Training], servers: Servers, way: str
) -> None:
    training = train()
    tree = tree_of(training)

    training.do(BACKGROUND[way])

    assert servers.orphans() <= pids(tree)


def test_a_server_that_was_in_the_background_before_the_run_opened_is_counted(
    train: Callable[..., Training], servers: Servers
) -> None:
    training = train()
    training.do(BACKGROUND["shell"])
    orphans = servers.orphans()

    assert orphans <= pids(tree_of(training))


def test_children_of_what_is_in_the_background_are_counted(
    train: Callable[..., Training], servers: Servers
) -> None:
    training = train()
    tree = tree_of(training)

    training.do("os.system('(' + server + '; true) >/dev/null &')")

    while len(pids(tree)) < 3:  # the training, the shell in the background, and the server
        time.sleep(0.01)


def test_a_background_process_is_counted_in_the_session_of_a_shell_that_only_waits(
    train: Callable[..., Training], servers: Servers
) -> None:
    """As in a batch script: script and training are in one process group."""
    training = train("sh", "-c", '"$@"; true', "script")
    (root,) = psutil.Process(training.process.pid).children()
    tree = ProcTree(Host(pid=root.pid), root.pid)
    tree.sample()

    training.do(BACKGROUND["shell"])

    assert servers.orphans() <= pids(tree)


def test_background_processes_of_the_script_that_runs_the_training_are_not_counted(
    train: Callable[..., Training], servers: Servers
) -> None:
    """They have its group, session, terminal and user, and are younger."""
    training = train(own_session=False)
    tree = tree_of(training)

    os.system(f"{servers.program} &")  # noqa: S605 - as this process is the script
    orphans = servers.orphans()

    assert not orphans & pids(tree)
    assert not orphans & pids(tree)


@pytest.mark.parametrize("way", [*BACKGROUND, *DAEMONS])
def test_background_processes_of_another_training_are_not_counted(
    train: Callable[..., Training], servers: Servers, way: str
) -> None:
    """Both were started by one script, and are in its group and session."""
    training, other = train(own_session=False), train(own_session=False)
    tree = tree_of(training)

    other.do((BACKGROUND | DAEMONS)[way])
    orphans = servers.orphans()

    assert not orphans & pids(tree)
    training.do("sum(range(100_000))")
    assert not orphans & pids(tree)


def test_where_two_trainings_start_some_at_once_neither_has_that_of_the_other(
    train: Callable[..., Training], servers: Servers
) -> None:
    trainings = train(own_session=False), train(own_session=False)
    trees = [tree_of(training) for training in trainings]
    own: list[set[int]] = []

    for training in trainings:
        training.do(BACKGROUND["shell"])
        own.append(servers.orphans(len(own) + 1) - set().union(*own))

    assert not own[1] & pids(trees[0])
    assert not own[0] & pids(trees[1])


NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
LOOK = (
    "from mlflow_sysmetrics.sources.proc_tree import ProcTree;"
    "from mlflow_sysmetrics.host.host import Host;"
    "tree = ProcTree(Host(), os.getpid()); tree.sample()"
)


def _may_make_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode


@pytest.mark.skipif(not _may_make_namespaces(), reason="no namespaces may be made here")
@pytest.mark.parametrize("first", [(), ("sh", "-c", '"$@"; true', "sh")], ids=["itself", "a shell"])
@pytest.mark.parametrize("way", [BACKGROUND["shell"], DAEMONS["setsid"]], ids=["shell", "setsid"])
def test_in_a_container_orphans_are_counted_in_a_session_of_their_own_too(
    train: Callable[..., Training], first: tuple[str, ...], way: str
) -> None:
    training = train(*NAMESPACE, *first)
    training.do(LOOK)

    training.do(way)

    assert training.do("answer = len(tree.sample())") == "2"


@pytest.mark.skipif(not _may_make_namespaces(), reason="no namespaces may be made here")
def test_processes_outside_of_the_container_are_not_counted_with_its_control_group(
    train: Callable[..., Training],
) -> None:
    """They are in the same control group, which does not show them to the container."""
    training = train(*NAMESPACE)
    training.do(LOOK)
    training.do("tree.whole_cpu_s(); tree.sample()")

    assert training.do("answer = tree.whole_cpu_s()") == "None"


@pytest.fixture
def container(tmp_path: Path) -> FakeProc:
    """An init, a training that it has started, and a monitor beside it."""
    proc = FakeProc(tmp_path)
    proc.run(1, 0, command="tini")
    proc.run(7, group=7, session=1, start=910)
    proc.run(8, group=8, session=8, start=910)
    return proc


@pytest.mark.parametrize(
    ("monitor", "counted"),
    [
        ({}, True),
        ({"cpu": 1.0}, True),
        ({"cpu": 1.0, "waited_faults": 90}, False),  # it has started something
        (None, False),  # it has ended: nobody knows what it did before
    ],
)
def test_a_daemon_in_a_container_is_the_trainings_if_nobody_else_there_can_have_started_it(
    container: FakeProc, monitor: dict[str, float] | None, *, counted: bool
) -> None:
    tree = ProcTree(container.host, 7)
    tree.sample()

    container.run(30, 1, start=1000, group=29, session=29)
    container.run(1, 0, command="tini", cpu=1.0, waited_faults=50)  # it reaps what others leave
    if monitor is None:
        container.end(8)
    else:
        container.run(8, group=8, session=8, start=910, **monitor)  # type: ignore[arg-type]

    assert (30 in pids(tree)) is counted


def test_a_daemon_is_not_counted_where_the_monitor_has_a_new_child(container: FakeProc) -> None:
    tree = ProcTree(container.host, 7)
    tree.sample()

    container.run(29, 8, start=1000, group=8, session=8)
    container.run(30, 1, start=1000, group=29, session=29)

    assert pids(tree) == {7}


def test_a_daemon_is_not_counted_on_a_host_with_many_other_processes(container: FakeProc) -> None:
    for pid in range(100, 200):
        container.run(pid, group=pid, session=pid)
    tree = ProcTree(container.host, 7)
    tree.sample()

    container.run(300, 1, start=1000, group=299, session=299)

    assert pids(tree) == {7}


def test_an_old_process_that_is_adopted_late_is_not_counted(container: FakeProc) -> None:
    container.run(20, 8, group=7, session=1, start=950)
    tree = ProcTree(container.host, 7)
    tree.sample()

    container.run(20, 1, group=7, session=1, start=950)

    assert pids(tree) == {7}


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group that accounts for CPU time, and is empty when the test has ended."""
    folder = find_cgroup(Host(), "cpuacct").directories[-1] / f"sysmetrics-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "cgroup.procs").open("w").close()
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error}")
    yield folder
    while (folder / "cgroup.procs").read_text():
        time.sleep(0.01)
    folder.rmdir()


def test_children_whose_parent_ignores_their_end_are_counted_in_a_group_of_their_own(
    cgroup: Path, train: Callable[..., Training]
) -> None:
    """The kernel then adds nothing of them to their parent: only the control group knows."""
    training = train("sh", "-c", f'echo $$ >{cgroup}/cgroup.procs && exec "$@"', "sh")
    collector = open_process_tree(Host(pid=training.process.pid))
    before_s = collector.collect()["process/cpu_seconds"]

    training.do("signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    burn = "[sys.executable, '-S', '-c', 'import time\\nwhile time.process_time() < 0.1: pass']"
    training.do(f"for _ in range(5): subprocess.Popen({burn}).wait()")

    used_s = collector.collect()["process/cpu_seconds"] - before_s
    assert 0.5 <= used_s < 0.8


def test_what_else_is_awake_in_the_control_group_is_not_counted(
    cgroup: Path, train: Callable[..., Training], servers: Servers
) -> None:
    enter = ("sh", "-c", f'echo $$ >{cgroup}/cgroup.procs && exec "$@"', "sh")
    training, other = train(*enter), train(*enter)
    collector = open_process_tree(Host(pid=training.process.pid))
    before_s = collector.collect()["process/cpu_seconds"]

    other.do("while time.process_time() < 0.5: pass")

    assert collector.collect()["process/cpu_seconds"] - before_s < 0.1


@pytest.mark.parametrize("deleter", ["os.remove", "lambda path: subprocess.run(['rm', path])"])
def test_a_file_that_is_deleted_before_it_was_written_is_not_written(
    train: Callable[..., Training], deleter: str
) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        training = train()
        collector = open_process_tree(Host(pid=training.process.pid))
        collector.collect()
        write = f"path = {folder + '/f'!r}; file = open(path, 'wb'); file.write(bytes(20_000_000))"

        training.do(f"{write}; file.close(); ({deleter})(path)")
        scratch_bytes = collector.collect()["process/io_write_bytes"]
        training.do(f"{write}; file.flush(); os.fsync(file.fileno())")
        kept_bytes = collector.collect()["process/io_write_bytes"]

    assert scratch_bytes < 1_000_000
    assert kept_bytes == pytest.approx(20_000_000, rel=0.05)


def test_what_was_counted_and_then_deleted_is_made_up_for_by_what_is_written_later(
    tmp_path: Path,
) -> None:
    proc = FakeProc(tmp_path)
    written = []
    proc.run(7, io=(0, 0, 0))
    collector = open_process_tree(replace(proc.host, pid=7))
    for io in [(0, 0, 0), (0, 100, 0), (0, 100, 100), (0, 150, 100), (0, 250, 100)]:
        proc.run(7, io=io, cpu=sum(io) / 100)
        written.append(collector.collect()["process/io_write_bytes"])

    assert written == [0, 100, 100, 100, 150]
