"""A helper that is stopped stands for a file system that hangs; that one is in tests/reports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest

from fakes.simulation import LONG_S
from fakes.waiting import eventually, is_gone
from mlflow_sysmetrics.collectors.disk import open_disk
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool, SpoolError, spool_files
from mlflow_sysmetrics.host import file_helper, mounts
from mlflow_sysmetrics.host.commands import find_command
from mlflow_sysmetrics.host.file_helper import FileHelper, NoAnswerError, helper_at, helper_of
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.host.mounts import Mount
from mlflow_sysmetrics.sampling.sink import Record
from mlflow_sysmetrics.sources.disk_space import read_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are helpers on Linux alone")

ADDRESS = RunAddress("1234", "sqlite:////store.db", "system/")
AT_ONCE_S = 0.1


@pytest.fixture
def all_may_hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every file system may."""
    helpers = file_helper._Helpers()
    monkeypatch.setattr(mounts, "LOCAL_TYPES", frozenset())
    monkeypatch.setattr(file_helper, "_helpers", helpers)
    yield
    for helper in helpers.by_point.values():
        helper.close()
        os.kill(helper.pid, signal.SIGCONT)
        eventually(partial(is_gone, helper.pid))


@pytest.fixture
def helper(all_may_hang: None, tmp_path: Path) -> FileHelper:
    found = helper_at(str(tmp_path))
    assert found is not None
    return found


def hang(helper: FileHelper) -> None:
    os.kill(helper.pid, signal.SIGSTOP)
    eventually(lambda: psutil.Process(helper.pid).status() == psutil.STATUS_STOPPED)


def samples(steps: Iterable[int]) -> list[Record]:
    return [Record(step, 1_700_000_000_000 + step, {"a": float(step)}) for step in steps]


def steps_of(spool: Spool) -> list[int]:
    return [sample.step for sample in spool.unsent()]


def test_a_helper_answers_as_this_process_would(helper: FileHelper) -> None:
    assert helper.call(read_space, "/")[3] == read_space("/")[3]
    assert helper.call(os.path.basename, "/a/\udcfc") == "\udcfc"


def test_errors_are_those_of_the_call(helper: FileHelper, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        helper.call(os.unlink, str(tmp_path / "none"))
    with pytest.raises(OSError, match="ValueError"):
        helper.call(os.unlink, "\0")
    assert helper.call(os.path.basename, "/a") == "a"


def test_one_mount_has_one_helper(helper: FileHelper, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()

    assert helper_at(str(tmp_path / "sub")) is helper
    assert file_helper.helper_pids() == {helper.pid}


def test_a_mount_that_hangs_holds_up_no_call_on_another_one(helper: FileHelper) -> None:
    other = helper_of(Mount("1", "0", "0:99", "/other", "nfs4"))
    hang(helper)
    with pytest.raises(NoAnswerError):
        helper.call_within(AT_ONCE_S, os.path.basename, "/a")

    assert other.call(os.path.basename, "/a") == "a"


def test_a_local_file_system_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = mounts.mount_of(str(tmp_path))
    assert mount is not None
    monkeypatch.setattr(mounts, "LOCAL_TYPES", mounts.LOCAL_TYPES | {mount.type})

    assert helper_at(str(tmp_path)) is None


def test_who_asks_waits_no_longer_than_allowed_and_is_answered_later(helper: FileHelper) -> None:
    hang(helper)
    for _ in range(3):
        with pytest.raises(NoAnswerError, match="does not answer"):
            helper.call_within(AT_ONCE_S, os.path.basename, "/late")
    assert helper.silent_s > 0

    os.kill(helper.pid, signal.SIGCONT)

    assert helper.call(os.path.basename, "/now") == "now"
    assert helper.silent_s == 0


def test_what_is_larger_than_the_pipe_is_sent_in_pieces(helper: FileHelper) -> None:
    text = "x" * 2**22

    assert helper.call(os.path.basename, text) == text
    hang(helper)
    with pytest.raises(NoAnswerError):
        helper.call_within(AT_ONCE_S, os.path.basename, text)
    os.kill(helper.pid, signal.SIGCONT)
    assert helper.call(os.path.basename, "/b") == "b"


def test_a_helper_that_is_killed_raises_and_is_replaced(helper: FileHelper, tmp_path: Path) -> None:
    os.kill(helper.pid, signal.SIGKILL)

    with pytest.raises(OSError, match=r"has ended|Broken pipe|reset"):
        helper.call(os.path.basename, "/a")

    other = helper_at(str(tmp_path))
    assert other is not helper
    assert other is not None
    assert other.call(os.path.basename, "/a") == "a"


def test_signals_that_are_meant_for_the_run_do_not_end_a_helper(helper: FileHelper) -> None:
    helper.call(os.path.basename, "/a")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(helper.pid, number)

    assert helper.call(os.path.basename, "/a") == "a"


def test_without_a_shell_the_reason_is_told_and_not_tried_again_at_once(
    all_may_hang: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[object] = []

    def no_shell(*arguments: object, **_options: object) -> None:
        starts.append(arguments)
        raise FileNotFoundError(2, "No such file or directory", "/bin/sh")

    monkeypatch.setattr(subprocess, "Popen", no_shell)

    for _ in range(2):
        with pytest.raises(OSError, match=r"no helper process can be started: .*/bin/sh"):
            helper_at(str(tmp_path))
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("executable", "python"),
    [("/opt/v/bin/python3.12", "/opt/v/bin/python3.12"), ("/usr/bin/blender", "python3"),
     ("/usr/bin/python3.13t", "/usr/bin/python3.13t"), ("", "python3"), (None, "python3")],
)  # fmt: skip
def test_another_program_that_has_python_in_it_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, executable: str | None, python: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)

    assert file_helper._python() == python


def test_a_forked_child_starts_its_own(helper: FileHelper, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            own = helper_at(str(tmp_path))
            assert own is not None
            os.write(writing, b"%d" % own.pid if own.call(os.path.basename, "/a") == "a" else b"0")
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    own_pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    assert own_pid not in {0, helper.pid}
    assert helper.call(os.path.basename, "/a") == "a"
    eventually(lambda: is_gone(own_pid))


def test_a_command_is_found_on_a_path_that_may_hang(
    helper: FileHelper, install: Callable[[str], Path], tmp_path: Path
) -> None:
    install("true")

    assert find_command("tool") == str(tmp_path / "tool")
    assert find_command("no-such-command-anywhere") is None
    hang(helper)
    assert find_command("tool") is None


def test_space_is_asked_also_where_the_root_itself_may_hang(
    all_may_hang: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/proc")  # a file system of its own on every Linux
    monkeypatch.setattr("mlflow_sysmetrics.collectors.disk._ANSWER_S", LONG_S)

    readings = open_disk(Host()).collect()

    assert readings["disk_usage_percentage"] == pytest.approx(read_space("/")[0], abs=5)
    assert readings["disk/working_directory_usage_megabytes"] == 0


# The spool of a user whose home is on a network


def test_a_spool_works_on_a_file_system_that_may_hang(helper: FileHelper, tmp_path: Path) -> None:
    folder = tmp_path / "home/state/spool"
    spool = Spool.create(folder, ADDRESS, 0, {})
    spool.append(samples(range(3000)))
    spool.mark(sent_to=10)

    assert spool_files(folder) == [spool.path]
    assert steps_of(spool) == list(range(10, 3000))
    assert _adopting_elsewhere(spool.path) == "SpoolError"  # locked
    spool.release()
    assert _adopting_elsewhere(spool.path) == "10"
    adopted = Spool.adopt(spool.path)
    assert steps_of(adopted) == list(range(10, 3000))
    adopted.delete()
    assert spool_files(folder) == []


def test_what_a_spool_was_too_slow_to_take_is_in_it_once(
    helper: FileHelper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool.create(tmp_path, ADDRESS, 0, {})
    spool.append(samples([0, 1]))
    hang(helper)
    monkeypatch.setattr(file_helper, "CALL_TIMEOUT_S", AT_ONCE_S)
    for _ in range(2):
        with pytest.raises(NoAnswerError):
            spool.append(samples([2, 3]))
    assert spool_files(tmp_path) == []
    monkeypatch.undo()

    os.kill(helper.pid, signal.SIGCONT)
    spool.append(samples([2, 3, 4]))

    assert steps_of(spool) == [0, 1, 2, 3, 4]
    assert len(spool.path.read_bytes().splitlines()) == 6
    spool.release()


def test_a_spool_that_hangs_can_be_let_go_of(
    helper: FileHelper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool.create(tmp_path, ADDRESS, 0, {})
    spool.append(samples([0]))
    hang(helper)
    monkeypatch.setattr(file_helper, "CALL_TIMEOUT_S", AT_ONCE_S)

    spool.release()
    with pytest.raises(NoAnswerError):
        Spool.adopt(spool.path)

    monkeypatch.setattr(file_helper, "CALL_TIMEOUT_S", 30.0)
    os.kill(helper.pid, signal.SIGCONT)
    adopted = Spool.adopt(spool.path)
    assert steps_of(adopted) == [0]
    with pytest.raises(SpoolError, match="this process is sending it"):
        Spool.adopt(spool.path)
    adopted.release()


def _adopting_elsewhere(path: Path) -> str:
    script = f"""
from pathlib import Path
from mlflow_sysmetrics.delivery.spool import Spool, SpoolError
try:
    print(Spool.adopt(Path({str(path)!r})).sent_to)
except SpoolError as error:
    print("SpoolError")
"""
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_what_the_program_opens_in_place_of_the_socket_is_neither_written_to_nor_closed(
    helper: FileHelper, tmp_path: Path
) -> None:
    """As a daemon does that closes all it finds open."""
    (tmp_path / "theirs").write_text("a model's weights")
    theirs = os.open(tmp_path / "theirs", os.O_RDWR)
    number = helper._descriptor
    os.dup2(theirs, number)
    os.close(theirs)

    with pytest.raises(OSError, match="has ended"):
        helper.call(read_space, str(tmp_path))
    helper.close()

    assert os.read(number, 100) == b"a model's weights"
    os.close(number)
