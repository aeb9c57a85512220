"""Commands that are run and waited for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Transient, Unavailable, unavailable
from mlflow_sysmetrics.host.file_helper import helper_at
from mlflow_sysmetrics.host.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND_TIMEOUT_S = 3.0
"""Longest time that a command (`nvidia-smi`, `system_profiler`, …) may take."""

_COMMAND_OUTPUT_BYTES = 1 << 20
_FIND_TIMEOUT_S = 0.5  # in one folder


def run_command(command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a command; see `Host.run`."""
    name = command[0]
    executable = find_command(name)
    if executable is None:
        raise Unavailable(f"{name} is not installed")
    try:
        process = subprocess.Popen(  # noqa: S603 - a fixed command found on the user's PATH
            [executable, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            cwd=os.sep,  # this process's may be on a file system that hangs
            start_new_session=True,  # so that its own children end with it
        )
    except OSError as error:
        raise unavailable(name, error) from error
    output = _output_of(process, timeout_s)
    if output is None:
        raise Transient(f"{name} did not answer within {timeout_s:g} s")
    if len(output) > _COMMAND_OUTPUT_BYTES:
        raise Unavailable(f"{name} printed more than {_COMMAND_OUTPUT_BYTES} bytes")
    if process.returncode != 0:
        raise Unavailable(f"{name} failed with exit status {process.returncode}")
    return output.decode("utf-8", errors="replace")


def find_command(name: str) -> str | None:
    """Where a command is on the PATH; folders on file systems that may hang come last."""
    last = []
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        try:
            helper = helper_at(folder)
        except OSError:
            continue
        if helper is not None:
            last.append((helper, os.path.abspath(folder)))  # noqa: PTH100 - as a string
        elif found := shutil.which(name, path=folder):
            return os.path.abspath(found)  # noqa: PTH100 - as a string
    for helper, folder in last:
        with contextlib.suppress(OSError):
            found = helper.call_within(_FIND_TIMEOUT_S, shutil.which, name, path=folder)
            if found:
                return found
    return None


def _output_of(process: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    """The output, up to one byte over the limit; None if the command exceeds the timeout.

    A thread reads, since neither `select()` on a Windows pipe nor a timed read exists.
    """
    assert process.stdout is not None  # noqa: S101 - for the type checker; Popen was given a pipe
    stdout = process.stdout
    chunks: list[bytes] = []

    def read() -> None:
        with stdout:
            chunks.append(stdout.read(_COMMAND_OUTPUT_BYTES + 1))

    reader = None
    deadline = time.monotonic() + timeout_s
    try:
        reader = start_thread("command", read)
        reader.join(timeout_s)
        if reader.is_alive() or not chunks:
            return None
        if len(chunks[0]) <= _COMMAND_OUTPUT_BYTES:
            process.wait(max(0.0, deadline - time.monotonic()))
        return chunks[0]
    except subprocess.TimeoutExpired:
        return None
    except RuntimeError as error:  # no thread may start at interpreter shutdown (Python 3.12+)
        raise Transient(f"cannot read a command's output: {error}") from error
    finally:
        _end(process)
        if reader is None:
            stdout.close()
        else:
            reader.join(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command that still runs; do not wait long for one that the kernel does not release."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
