from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from fakes.simulation import LONG_S
from fakes.waiting import eventually, is_gone
from mlflow_sysmetrics.host.command_stream import CommandStream
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it needs a POSIX shell")


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """No thread, no child, no descriptor outlives a stream that is closed."""
    me = psutil.Process()
    children, descriptors = set(me.children()), me.num_fds()
    yield
    gc.collect()
    eventually(lambda: not readers())
    assert set(me.children()) <= children
    assert me.num_fds() <= descriptors


def readers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "mlflow-sysmetrics-command"]


def next_line(stream: CommandStream) -> str:
    line = eventually(stream.latest)
    assert line is not None
    return line


def has_ended(stream: CommandStream) -> bool:
    try:
        stream.latest()
    except Unavailable:
        return True
    return False


def pid_in(pid_file: Path) -> int:
    return int(eventually(lambda: pid_file.exists() and pid_file.read_text().strip()))


def test_each_line_is_given_once(install: Callable[[str], Path]) -> None:
    install('echo "$1 $LC_ALL"; exec sleep 60')

    stream = Host().stream(["tool", "one"])

    assert next_line(stream) == "one C"
    assert stream.latest() is None
    stream.close()


def test_only_the_latest_whole_line_counts(install: Callable[[str], Path], tmp_path: Path) -> None:
    install(f"printf 'first\\nsecond\\npart'; touch {tmp_path / 'printed'}; exec sleep 60")

    stream = CommandStream(["tool"])

    eventually((tmp_path / "printed").exists)
    eventually(lambda: stream._latest == b"second")
    assert stream.latest() == "second"
    stream.close()


def test_a_last_line_that_comes_as_one_asks_is_not_lost(install: Callable[[str], Path]) -> None:
    install("exec sleep 60")
    stream = CommandStream(["tool"])
    lock = stream._lock

    class LetsTheReaderEnd(contextlib.nullcontext[None]):
        def __exit__(self, *_exception: object) -> None:
            stream._lock, stream._latest, stream._ended = lock, b"last", True

    stream.close()
    assert eventually(lambda: stream._ended)
    stream._lock, stream._ended = LetsTheReaderEnd(), False  # type: ignore[assignment] # as is said

    assert stream.latest() is None
    assert stream.latest() == "last"
    assert has_ended(stream)


def test_the_command_is_no_child_of_this_process(install: Callable[[str], Path]) -> None:
    pid_file = install('echo $$ > "$pid_file"; exec sleep 60')

    stream = CommandStream(["tool"])
    pid = pid_in(pid_file)

    assert pid not in {each.pid for each in psutil.Process().children(recursive=True)}
    stream.close()
    eventually(lambda: is_gone(pid))


def test_closing_ends_the_command_and_what_it_started(install: Callable[[str], Path]) -> None:
    pid_file = install('sleep 60 & echo $! > "$pid_file"; wait')

    stream = CommandStream(["tool"])
    grandchild = pid_in(pid_file)
    stream.close()
    stream.close()

    eventually(lambda: is_gone(grandchild))
    eventually(lambda: has_ended(stream))


def test_what_was_printed_last_can_be_read_when_the_command_has_ended(
    install: Callable[[str], Path],
) -> None:
    install("echo last")

    stream = CommandStream(["tool"])

    eventually(lambda: not readers())
    assert stream.latest() == "last"
    with pytest.raises(Unavailable, match="tool has ended"):
        stream.latest()
    stream.close()


def test_a_command_that_has_ended_is_not_killed_again(
    install: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("exit 1")
    stream = CommandStream(["tool"])
    eventually(lambda: has_ended(stream))
    killed: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _signal: killed.append(group))

    stream.close()

    assert killed == []


def test_a_line_without_end_ends_the_stream(install: Callable[[str], Path]) -> None:
    install("exec tr '\\0' x < /dev/zero")

    stream = CommandStream(["tool"])

    eventually(lambda: has_ended(stream))


def test_a_command_that_is_not_installed_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no-such-tool is not installed"):
        Host().stream(["no-such-tool"])


def test_no_thread_at_interpreter_shutdown_is_unavailable(
    install: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pid_file = install('echo $$ > "$pid_file"; while echo x; do sleep 0.01; done')
    monkeypatch.setattr(threading.Thread, "start", refuse)

    with pytest.raises(Unavailable, match="can't start new thread"):
        CommandStream(["tool"])
    pid = pid_in(pid_file)
    eventually(lambda: is_gone(pid))  # nobody reads what it prints


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_has_neither_the_pipe_nor_the_command_to_end(
    install: Callable[[str], Path],
) -> None:
    pid_file = install('echo $$ > "$pid_file"; while echo line; do sleep 0.01; done')
    stream = CommandStream(["tool"])
    pid = pid_in(pid_file)
    next_line(stream)

    child = os.fork()
    if child == 0:
        ended = 1
        with contextlib.suppress(BaseException):
            stream.latest()
        with contextlib.suppress(BaseException):
            pipe_is_closed = not Path(f"/proc/self/fd/{stream._descriptor}").exists()
            stream.close()
            ended = 0 if has_ended(stream) and pipe_is_closed else 1
        os._exit(ended)

    assert os.waitpid(child, 0)[1] == 0
    next_line(stream)  # it goes on for the parent
    stream.close()
    eventually(lambda: is_gone(pid))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_the_command_ends_with_this_process_though_forked_children_live_on(
    install: Callable[[str], Path], tmp_path: Path
) -> None:
    pid_file = install('echo $$ > "$pid_file"; while echo line; do sleep 0.01; done')
    trainer = os.fork()
    if trainer == 0:
        with contextlib.suppress(BaseException):
            CommandStream(["tool"])
            pid_in(pid_file)
            worker = os.fork()
            if worker == 0:
                time.sleep(LONG_S)
                os._exit(0)
            (tmp_path / "worker").write_text(str(worker))
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(trainer, 0)
    worker = int((tmp_path / "worker").read_text())
    try:
        eventually(lambda: is_gone(pid_in(pid_file)))
        assert not is_gone(worker)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_what_the_program_opens_in_place_of_the_pipe_is_neither_read_nor_closed(
    tmp_path: Path,
) -> None:
    """As a daemon does that closes all it finds open."""
    (tmp_path / "theirs").write_text("a model's weights")
    theirs = os.open(tmp_path / "theirs", os.O_RDONLY)
    stream = CommandStream(["sh", "-c", "while echo 1; do sleep 0.05; done"])
    number = stream._descriptor
    next_line(stream)
    os.dup2(theirs, number)
    os.close(theirs)

    eventually(lambda: has_ended(stream))
    stream.close()

    assert os.read(number, 100) == b"a model's weights"
    os.close(number)
