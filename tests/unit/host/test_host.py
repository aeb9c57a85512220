from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from fakes.simulation import LONG_S
from fakes.waiting import eventually, is_gone
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

SHORT_S = 2.0  # but long enough for a command to begin


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """No thread, no child, no unclosed pipe (warnings are errors) outlives a command."""
    children = set(psutil.Process().children())
    yield
    gc.collect()
    assert not [t for t in threading.enumerate() if t.name == "mlflow-sysmetrics-command"]
    assert set(psutil.Process().children()) <= children


def test_a_command_is_run_and_its_output_returned(install: Callable[[str], Path]) -> None:
    install('echo "$1 $LC_ALL"; echo complaint >&2')

    assert Host().run(["tool", "Grüße"]) == "Grüße C\n"


def test_output_that_is_no_text_is_returned_nevertheless(install: Callable[[str], Path]) -> None:
    install(r"printf '\377GPU\n'")

    assert Host().run(["tool"]) == "\N{REPLACEMENT CHARACTER}GPU\n"


def test_a_command_that_is_not_installed_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no-such-tool is not installed"):
        Host().run(["no-such-tool"])


def test_a_command_that_cannot_be_executed_is_unavailable(
    install: Callable[[str], Path], tmp_path: Path
) -> None:
    install("")
    (tmp_path / "tool").write_text("#!/no/such/interpreter\n")

    with pytest.raises(Unavailable, match="tool: No such file"):
        Host().run(["tool"])


def test_a_failing_command_is_unavailable(install: Callable[[str], Path]) -> None:
    install("echo half; exit 9")

    with pytest.raises(Unavailable, match=r"tool failed with exit status 9$"):
        Host().run(["tool"])


def test_a_hanging_command_is_killed(install: Callable[[str], Path]) -> None:
    pid_file = install('echo $$ > "$pid_file"; trap "" TERM; exec sleep 60')

    with pytest.raises(Unavailable, match="tool did not answer within 2 s"):
        Host().run(["tool"], SHORT_S)
    eventually(lambda: is_gone(int(pid_file.read_text())))


def test_a_child_that_holds_the_pipe_is_killed_with_its_parent(
    install: Callable[[str], Path],
) -> None:
    pid_file = install('sleep 60 & echo $! > "$pid_file"; wait')

    with pytest.raises(Unavailable, match="did not answer"):
        Host().run(["tool"], SHORT_S)
    eventually(lambda: is_gone(int(pid_file.read_text())))


def test_a_command_that_closes_its_output_and_lives_on_is_killed(
    install: Callable[[str], Path],
) -> None:
    pid_file = install('echo $$ > "$pid_file"; echo done; exec sleep 60 >&-')

    with pytest.raises(Unavailable, match="did not answer"):
        Host().run(["tool"], SHORT_S)
    eventually(lambda: is_gone(int(pid_file.read_text())))


def test_endless_output_is_cut_and_its_command_killed(install: Callable[[str], Path]) -> None:
    pid_file = install('echo $$ > "$pid_file"; exec cat /dev/zero')

    with pytest.raises(Unavailable, match="tool printed more than 1048576 bytes"):
        Host().run(["tool"], LONG_S)
    eventually(lambda: is_gone(int(pid_file.read_text())))


def test_where_no_thread_may_start_no_command_is_left_running(
    install: Callable[[str], Path], mocker: MockerFixture
) -> None:
    install("exec sleep 60")
    mocker.patch("threading.Thread.start", side_effect=RuntimeError("at interpreter shutdown"))

    with pytest.raises(Unavailable, match="cannot read a command's output: at interpreter"):
        Host().run(["tool"], LONG_S)


def test_files_are_read_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_bytes(b"1.0 \xff\n")
    host = Host(root=tmp_path)

    assert host.read_text("proc/uptime") == "1.0 \N{REPLACEMENT CHARACTER}\n"
    assert host.read_text(host.procfs / "uptime") == host.read_text("proc/uptime")
    with pytest.raises(Unavailable, match="proc/stat: No such file or directory"):
        host.read_text("proc/stat")


def test_a_file_may_be_used_that_can_be_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "device").touch()

    assert Host(root=tmp_path).may_use("device")
    assert not Host(root=tmp_path).may_use("another")


def test_a_command_is_there_if_it_is_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path(sys.executable)
    monkeypatch.setenv("PATH", str(python.parent))

    assert Host().has_command(python.name)
    assert not Host().has_command("no-such-tool")


def test_a_broken_pynvml_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    with pytest.raises(Unavailable, match="pynvml"):
        Host().load_nvml()


def test_the_clock_never_goes_back() -> None:
    clock = Host().clock
    readings = [clock.now_s() for _ in range(100)]

    assert readings == sorted(readings)


def test_a_root_may_be_given_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recorded/proc").mkdir(parents=True)
    (tmp_path / "recorded/proc/loadavg").write_text("0.1")
    monkeypatch.chdir(tmp_path)

    host = Host(root=Path("recorded"))

    assert host.read_text("proc/loadavg") == host.read_text(host.procfs / "loadavg") == "0.1"
