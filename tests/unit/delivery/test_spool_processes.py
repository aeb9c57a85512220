"""Whose a spool file is, between real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from fakes.scripted_store import sample, samples
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool, SpoolError, spool_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADDRESS = RunAddress("1234", "http://somewhere", "system/")
ALL = 10**9

IMPORTS = """
import os, sys, time
from pathlib import Path
from mlflow_sysmetrics.sampling.sink import Record
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool, SpoolError, owned_files, spool_files

folder = Path(sys.argv[1])
address = RunAddress("1234", "http://somewhere", "system/")

def adopt(path):
    try:
        Spool.adopt(path)
        return "adopted"
    except SpoolError as reason:
        return str(reason)
"""

ADOPTS = "print(adopt(spool_files(folder)[0]))"

OWNS = """
spool = Spool.create(folder, address, 0, {})
spool.append([Record(0, 1000, {"key": 1.0})])
print("ready", flush=True)
input()
"""

WRITES_ON_AND_ON = """
spool = Spool.create(folder, address, 0, {})
print("ready", flush=True)
step = 0
while True:
    spool.append([Record(step, 1000 * step, {f"key_{i}": 1.0 / 3 for i in range(40)})])
    step += 1
"""

# A child is forked while the file is owned; each process tells what it can do.
FORKS = """
spool = Spool.create(folder, address, 0, {})
spool.append([Record(0, 1000, {"key": 1.0})])
child = os.fork()
if child == 0:
    owned_files.disown_all()
    print("child:", adopt(spool.path), flush=True)
    Spool.create(folder / "own", address, 0, {}).append([Record(0, 1000, {"key": 1.0})])
    os._exit(0)
os.waitpid(child, 0)
print("parent:", adopt(spool.path), flush=True)
input()
spool.append([Record(1, 2000, {"key": 1.0})])
"""

# The parent ends while its forked child lives on.
FORKS_AND_DIES = """
spool = Spool.create(folder, address, 0, {})
spool.append([Record(0, 1000, {"key": 1.0})])
child = os.fork()
if child == 0:
    owned_files.disown_all()
    input()
    os._exit(0)
print("ready", flush=True)
os._exit(0)
"""


def command(script: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", IMPORTS + script, str(folder)]


@contextmanager
def running(script: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process, killed in the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command(script, folder), stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def answer_of(script: str, folder: Path) -> str:
    done = subprocess.run(command(script, folder), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def test_another_process_cannot_take_up_what_is_in_use(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, ADDRESS, 0, {})
    assert answer_of(ADOPTS, tmp_path) == "another process is sending it"

    spool.release()
    assert answer_of(ADOPTS, tmp_path) == "adopted"


def test_what_is_taken_up_is_in_use_too(tmp_path: Path) -> None:
    Spool.create(tmp_path, ADDRESS, 0, {}).release()
    spool = Spool.adopt(spool_files(tmp_path)[0])
    with pytest.raises(SpoolError, match="this process is sending it"):
        Spool.adopt(spool.path)

    assert answer_of(ADOPTS, tmp_path) == "another process is sending it"


def test_a_process_that_is_killed_leaves_all_that_it_wrote(tmp_path: Path) -> None:
    with running(OWNS, tmp_path) as process:
        assert line_of(process) == "ready"
        (path,) = spool_files(tmp_path)
        with pytest.raises(SpoolError, match="another process is sending it"):
            Spool.adopt(path)

        process.send_signal(signal.SIGKILL)
        process.wait()

    spool = Spool.adopt(path)
    assert [each.step for each in spool.read(0, ALL)] == [0]


@pytest.mark.parametrize("lines", [1, 20, 300])
def test_a_process_that_is_killed_while_it_writes_leaves_whole_samples(
    tmp_path: Path, lines: int
) -> None:
    with running(WRITES_ON_AND_ON, tmp_path) as process:
        assert line_of(process) == "ready"
        (path,) = spool_files(tmp_path)
        while path.stat().st_size < lines * 1000:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()

    spool = Spool.adopt(path)
    steps = [each.step for each in spool.read(0, ALL, ALL)]
    assert len(steps) >= lines // 2
    assert steps == list(range(len(steps)))
    spool.append([sample(len(steps))])
    assert [each.step for each in spool.read(0, ALL, ALL)] == list(range(len(steps) + 1))


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
def test_a_forked_child_neither_has_nor_breaks_its_parents_lock(tmp_path: Path) -> None:
    with running(FORKS, tmp_path) as process:
        assert line_of(process) == "child: another process is sending it"
        assert line_of(process) == "parent: this process is sending it"
        (path,) = spool_files(tmp_path)
        assert answer_of(ADOPTS, tmp_path) == "another process is sending it"
        assert len(spool_files(tmp_path / "own")) == 1

        go_on(process)
        assert process.wait() == 0

    spool = Spool.adopt(path)
    assert [each.step for each in spool.read(0, ALL)] == [0, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
def test_a_forked_child_that_lives_on_does_not_keep_its_parents_file(tmp_path: Path) -> None:
    with running(FORKS_AND_DIES, tmp_path) as process:
        assert line_of(process) == "ready"
        process.wait()

        spool = Spool.adopt(spool_files(tmp_path)[0])

        assert [each.step for each in spool.read(0, ALL)] == [0]
        go_on(process)


def test_of_many_processes_that_take_up_a_file_one_gets_it(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, ADDRESS, 0, {})
    spool.append(samples([0]))
    spool.release()
    script = "print(adopt(spool_files(folder)[0]), flush=True); input()"

    with ExitStack() as stack:
        processes = [stack.enter_context(running(script, tmp_path)) for _ in range(4)]
        answers = [line_of(each) for each in processes]

    assert sorted(answers) == ["adopted"] + ["another process is sending it"] * 3
