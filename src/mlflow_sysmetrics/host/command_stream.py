"""A command that prints repeatedly; only its latest line counts."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.commands import find_command
from mlflow_sysmetrics.host.descriptors import identity_of
from mlflow_sysmetrics.host.errors import Transient, Unavailable, unavailable
from mlflow_sysmetrics.host.forks import after_fork_in_child
from mlflow_sysmetrics.host.outside import start_outside
from mlflow_sysmetrics.host.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE_BYTES = 1 << 20

_open_streams: weakref.WeakSet[CommandStream] = weakref.WeakSet()


class CommandStream:
    """A command that runs beside this process, until it is closed or this process ends.

    A shell starts the command and exits, so the command is no child of this process: its use is not
    counted as the run's, and no one has to wait for it. When this process has ended, the command's
    next line has no reader, which ends the command.

    A forked child of this process closes the pipe: there, the stream has ended.

    Args:
        command: What to run, found on the PATH.

    Raises:
        Unavailable: It is not installed, or cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._name = command[0]
        self._latest: bytes | None = None
        self._ended = False
        self._lock = threading.Lock()
        self._group, self._descriptor = _start(command)
        self._identity = identity_of(self._descriptor)
        try:
            start_thread("command", self._read)
        except RuntimeError as error:  # the interpreter is shutting down
            os.close(self._descriptor)
            raise Transient(f"cannot read a command's output: {error}") from error
        _open_streams.add(self)

    def latest(self) -> str | None:
        """The latest complete line since the last call; None if there is none.

        Raises:
            Unavailable: The command has ended.
        """
        with self._lock:  # consistent: the last line comes before the end
            line, self._latest = self._latest, None
            has_ended = self._ended
        if line is not None:
            return line.decode("utf-8", errors="replace")
        if has_ended:
            raise Unavailable(f"{self._name} has ended")
        return None

    def close(self) -> None:
        """End the command; may be called twice."""
        with self._lock:
            # As soon as the command has ended, its group's number may be reused.
            if not self._ended:
                with contextlib.suppress(OSError):
                    os.killpg(self._group, signal.SIGKILL)

    def _read(self) -> None:
        """Keep the latest line. A thread runs this, since nothing else may wait for the command."""
        part = b""
        with contextlib.suppress(OSError):
            while len(part) <= _LINE_BYTES and self._is_ours:
                if not (chunk := os.read(self._descriptor, 65536)):
                    break
                *lines, part = (part + chunk).split(b"\n")
                if lines:
                    with self._lock:
                        self._latest = lines[-1]
        with self._lock:
            self._ended = True
        self._close()

    def after_fork_in_child(self) -> None:
        """Close what the parent reads."""
        self._lock = threading.Lock()
        if not self._ended:
            self._ended = True
            self._latest = None
            self._close()

    def _close(self) -> None:
        if self._is_ours:
            os.close(self._descriptor)

    @property
    def _is_ours(self) -> bool:
        """Whether the descriptor is the pipe's still: the program may have closed that."""
        return identity_of(self._descriptor) == self._identity


def _start(command: Sequence[str]) -> tuple[int, int]:
    """Start a command; returns its process group and where its output is read."""
    executable = find_command(command[0])
    if executable is None:
        raise Unavailable(f"{command[0]} is not installed")
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise unavailable(command[0], error) from error
    try:
        group = start_outside(
            '"$@" &', [executable, *command[1:]], {**os.environ, "LC_ALL": "C"}, stdout=writing
        )
    except OSError as error:
        os.close(reading)
        raise unavailable(f"{command[0]} cannot be started", error) from error
    finally:
        os.close(writing)
    return group, reading


def _forget_streams() -> None:
    for stream in list(_open_streams):
        stream.after_fork_in_child()
    _open_streams.clear()


after_fork_in_child(_forget_streams)
