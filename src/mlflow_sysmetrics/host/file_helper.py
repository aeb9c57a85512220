"""Calls on file systems that may hang, made by a process outside this one.

A call that hangs keeps its process from ending. So if a file system may hang (`mounts.py`), a small
helper process makes the calls, one per mount:

- A shell starts it when it is first needed, and exits. So the helper is no child of this process,
  nothing waits for it, and it has none of this process's descriptors nor its working directory.
- It ends with this process, which closes the other end of its socket; if it hangs, it ends as soon
  as the file system answers.
- It makes one call at a time. The caller waits until a timeout; while an answer is outstanding,
  further calls are refused. A call is completed even if its caller has given up, so it must be
  repeatable.
- A forked child closes its parent's helpers, and starts its own.

Functions are sent by name: they must be in modules that need only the standard library, and take
and return types that `marshal` supports (`helper_program.py`).
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mlflow_sysmetrics.host.descriptors import identity_of
from mlflow_sysmetrics.host.forks import after_fork_in_child
from mlflow_sysmetrics.host.helper_program import LENGTH_BYTES, framed, unframed
from mlflow_sysmetrics.host.mounts import mount_of
from mlflow_sysmetrics.host.outside import start_outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host.mounts import Mount

    _T = TypeVar("_T")

CALL_TIMEOUT_S = 5.0
"""Default timeout of a call."""

_EXIT_TIMEOUT_S = 1.0  # at the interpreter's exit, when a call delays the process itself
_START_AGAIN_S = 60.0  # pause after a helper has ended, or could not be started

_START = """
if [ -n "$1" ]; then LD_LIBRARY_PATH=$1; export LD_LIBRARY_PATH; fi
shift
{ "$@" <&3 3<&- & } 3<&0
echo $! >&0
"""
"""The helper's pid comes first on the socket. The shell itself starts without the user's libraries:
they may be on the file system that hangs."""

_SERVE = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from mlflow_sysmetrics.host.helper_program import serve; serve()"
)
_ENVIRON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE")  # what a helper gets of this process's


class NoAnswerError(TimeoutError):
    """A file system has not answered in time; the message names it."""


class Files(Protocol):
    """Makes calls on a file system: this process or a helper."""

    def call(self, function: Callable[..., _T], *arguments: Any, **options: Any) -> _T:  # noqa: ANN401 - of any function
        """Call a function; its exceptions are raised here.

        Raises:
            NoAnswerError: Its file system has not answered in time.
            OSError: The helper process has ended, or cannot be started.
        """


class _Here:
    """This process."""

    def call(self, function: Callable[..., _T], *arguments: Any, **options: Any) -> _T:  # noqa: ANN401 - as above
        return function(*arguments, **options)


class FileHelper:
    """The process that makes the calls on one mount.

    Args:
        mount: The mount.

    Attributes:
        pid: Of the process.
        has_ended: Whether it will never answer again.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.has_ended = False
        self._lock = threading.Lock()
        self._to_send = b""
        self._received = b""
        self._asked = self._answered = 0
        self._asked_s = 0.0
        self._descriptor, self.pid = _start()
        self._identity = identity_of(self._descriptor)

    def call(self, function: Callable[..., _T], *arguments: Any, **options: Any) -> _T:  # noqa: ANN401 - as above
        """Call a function in the helper, and return or raise what it does."""
        return self.call_within(CALL_TIMEOUT_S, function, *arguments, **options)

    def call_within(
        self,
        timeout_s: float,
        function: Callable[..., _T],
        *arguments: Any,  # noqa: ANN401 - as above
        **options: Any,  # noqa: ANN401 - as above
    ) -> _T:
        """As `call`, with another timeout."""
        if not threading.main_thread().is_alive():
            timeout_s = min(timeout_s, _EXIT_TIMEOUT_S)
        request = (function.__module__, function.__name__, arguments, options)
        if not self._lock.acquire(timeout=max(0.0, timeout_s - self.silent_s)):
            raise self._no_answer()
        try:
            self._await(self._asked_s + timeout_s)  # an answer that the previous caller gave up on
            self._asked_s = time.monotonic()
            self._to_send = framed(request)
            self._asked += 1  # last: Ctrl-C may come in between
            result: Any = self._await(self._asked_s + timeout_s)
        finally:
            self._lock.release()
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return] # what the function returns

    @property
    def silent_s(self) -> float:
        """For how long an answer has been outstanding; 0.0 if none is."""
        return time.monotonic() - self._asked_s if self._answered < self._asked else 0.0

    def close(self) -> None:
        """Close the socket, which ends the process; may be called twice."""
        if not self.has_ended:
            self.has_ended = True
            if self._is_ours:
                os.close(self._descriptor)

    @property
    def _is_ours(self) -> bool:
        """Whether the descriptor is the socket's still: the program may have closed that."""
        return identity_of(self._descriptor) == self._identity

    def _await(self, deadline_s: float) -> object:
        """The answer to the last request.

        Raises:
            NoAnswerError: It does not come in time.
        """
        answer: object = None
        while self._answered < self._asked:
            self._pump(deadline_s)
            size = int.from_bytes(self._received[:LENGTH_BYTES], "big")
            end = LENGTH_BYTES + size
            if LENGTH_BYTES <= len(self._received) >= end:
                is_well, *values = unframed(self._received[LENGTH_BYTES:end])
                answer = values[0] if is_well else _error(*values)
                self._received = self._received[end:]
                self._answered += 1
        return answer

    def _pump(self, deadline_s: float) -> None:
        """Send and receive a piece."""
        if not self._is_ours:
            self.close()
        if self.has_ended:
            raise self._broken()
        wanted = select.POLLIN | (select.POLLOUT if self._to_send else 0)
        poll = select.poll()
        poll.register(self._descriptor, wanted)
        events = poll.poll(max(0.0, deadline_s - time.monotonic()) * 1e3)
        if not events:
            raise self._no_answer()
        try:
            if events[0][1] & select.POLLIN or not events[0][1] & select.POLLOUT:
                piece = os.read(self._descriptor, 2**16)
                if not piece:
                    raise self._broken()
                self._received += piece
            elif not events[0][1] & (select.POLLHUP | select.POLLERR):
                sent = os.write(self._descriptor, self._to_send)
                self._to_send = self._to_send[sent:]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            raise

    def _no_answer(self) -> NoAnswerError:
        return NoAnswerError(f"{self.mount} does not answer")

    def _broken(self) -> OSError:
        return OSError(f"the helper process for {self.mount} has ended")

    def after_fork_in_child(self) -> None:
        """Close the parent's socket."""
        self._lock = threading.Lock()
        self.close()


class _Helpers:
    """The helpers of this process, by mount point."""

    def __init__(self) -> None:
        self.by_point: dict[str, FileHelper] = {}
        self._failures: dict[str, tuple[float, OSError]] = {}
        self._lock = threading.RLock()

    def of(self, mount: Mount) -> FileHelper:
        with self._lock:
            helper = self.by_point.get(mount.point)
            if helper is not None and not helper.has_ended:
                return helper
            failed_s, error = self._failures.get(mount.point, (0.0, None))
            now_s = time.monotonic()
            if error is not None and now_s - failed_s < _START_AGAIN_S:
                raise OSError(f"no helper process can be started: {error}") from error
            if helper is not None:  # it has ended: wait before the next start
                self._failures[mount.point] = (now_s, OSError("one has just ended"))
            try:
                self.by_point[mount.point] = FileHelper(mount)
            except OSError as error:
                self._failures[mount.point] = (now_s, error)
                raise OSError(f"no helper process can be started: {error}") from error
            return self.by_point[mount.point]

    def after_fork_in_child(self) -> None:
        for helper in self.by_point.values():
            helper.after_fork_in_child()
        self.by_point = {}
        self._failures = {}
        self._lock = threading.RLock()  # a thread that the child does not have may hold it


_helpers = _Helpers()
HERE = _Here()


def helper_at(path: str) -> FileHelper | None:
    """The helper for a path; None where the path's file system cannot hang.

    Raises:
        OSError: It cannot be started, or the working directory has been deleted.
    """
    mount = mount_of(path)
    return helper_of(mount) if mount is not None and mount.may_hang else None


def helper_of(mount: Mount) -> FileHelper:
    """The helper for a mount, started if there is none yet.

    Raises:
        OSError: It cannot be started.
    """
    return _helpers.of(mount)


def files_at(path: str) -> Files:
    """What makes calls on a path: this process, if its file system cannot hang.

    Raises:
        OSError: As `helper_at`.
    """
    return helper_at(path) or HERE


def start_helpers(*paths: str | Path | None) -> None:
    """Start the helpers that some paths will need.

    This is done as a run opens: later, the user's code may be in `os.wait()`, which would see the
    shell that starts a helper.
    """
    for path in paths:
        if path is not None:
            with suppress(OSError):  # the first call tries again, and reports the failure
                helper_at(str(path))


def helper_pids() -> set[int]:
    """The helpers' pids: they never belong to a run's process tree."""
    return {each.pid for each in list(_helpers.by_point.values()) if not each.has_ended}


def _error(number: int | None, reason: str) -> OSError:
    """The exception that a function has raised in the helper."""
    return OSError(reason) if number is None else OSError(number, reason)


def _start() -> tuple[int, int]:
    """Start a helper; returns the descriptor of a socket to it, and its pid."""
    packages = str(Path(__file__).parents[2])
    python = [_python(), "-I", "-S", "-c", _SERVE, packages]
    environ = {name: os.environ[name] for name in _ENVIRON if name in os.environ}
    ours, its = socket.socketpair()
    with ours, its:
        start_outside(
            _START,
            [os.environ.get("LD_LIBRARY_PATH", ""), *python],
            environ,
            stdin=its.fileno(),
        )
        its.close()
        ours.settimeout(_EXIT_TIMEOUT_S)
        pid = b""
        while not pid.endswith(b"\n"):
            piece = ours.recv(1)
            if not (piece.isdigit() or (pid and piece == b"\n")):
                raise OSError("its shell has failed")
            pid += piece
        ours.setblocking(False)  # noqa: FBT003 - the only argument
        return ours.detach(), int(pid)


def _python() -> str:
    """The interpreter; `python3` on the PATH where this one is part of another program."""
    name = os.path.basename(sys.executable or "")  # noqa: PTH119 - may be empty
    return sys.executable if re.match(r"(python|pypy)[\d.]*\w?$", name) else "python3"


after_fork_in_child(lambda: _helpers.after_fork_in_child())  # noqa: PLW0108 - tests replace them
