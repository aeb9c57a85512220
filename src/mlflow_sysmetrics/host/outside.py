"""Processes that run beside this one without being its children."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_START_TIMEOUT_S = 3.0


def start_outside(
    script: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> int:
    """Let a shell start a command in the background, and wait for the shell's exit.

    So the command is no child of this process: its use is not counted as the run's, and the user's
    `os.wait()` does not see it. It runs in the root directory and inherits no other descriptors.

    Args:
        script: The shell's script; it must end at once.
        arguments: The script's `$1` and so on.
        environ: The command's environment.
        stdin: The script's input.
        stdout: The script's output.

    Returns:
        The process group, which can be ended as one.

    Raises:
        OSError: There is no shell, or it does not end in time.
    """
    try:
        shell = subprocess.Popen(  # noqa: S603 - fixed scripts
            ["/bin/sh", "-c", script, "sh", *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            env=environ,
            cwd=os.sep,  # a shell looks up its working directory, which may hang
            start_new_session=True,
        )
        shell.wait(_START_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(errno.ETIMEDOUT, str(error)) from error
    return shell.pid
