"""The folder that node_exporter's textfile collector reads.

These functions may run in a helper process: they need the standard library alone.
"""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path

_FIRST_LINE = re.compile(rb"# by mlflow-sysmetrics, stale from (\d+) on\n")
_MAX_FIRST_LINE = 100
_UNFINISHED_S = 600.0
"""A file that is not finished after this never will be."""


def write_file(folder: str, name: str, text: str, stale_from_s: float) -> None:
    """Write a file that is there as a whole or not at all, and that everyone may read.

    Args:
        folder: A folder that exists.
        name: The file's name.
        text: What goes into it.
        stale_from_s: When it may be removed, in seconds since the epoch.

    Raises:
        OSError: It cannot be written.
    """
    unfinished = os.path.join(folder, f".{name}.tmp")  # noqa: PTH118 - quicker, at every sample
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(unfinished, flags, 0o644)
    try:
        with suppress(AttributeError):  # on Windows
            os.fchmod(descriptor, 0o644)  # whatever the umask says
        first_line = f"# by mlflow-sysmetrics, stale from {stale_from_s:.0f} on\n"
        os.write(descriptor, (first_line + text).encode())
    finally:
        os.close(descriptor)
    os.replace(unfinished, os.path.join(folder, name))  # noqa: PTH105, PTH118 - as above


def remove_stale(folder: str, now_s: float) -> None:
    """Remove files of runs that have ended, or whose process has; those of others stay.

    Raises:
        OSError: The folder cannot be read.
    """
    for entry in os.scandir(folder):
        with suppress(OSError):  # another process was quicker, or it is another user's
            if now_s >= _stale_from_s(entry):
                Path(entry.path).unlink()


def why_not_written(folder: str) -> str | None:
    """Why no file can be made in a folder; None if one can."""
    if not Path(folder).is_dir():
        return "there is no such folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "this user may not write there"
    return None


def count_files(folder: str, now_s: float) -> int:
    """How many files of runs there are that are not stale.

    Raises:
        OSError: The folder cannot be read.
    """
    return sum(
        now_s < _stale_from_s(entry) < math.inf
        for entry in os.scandir(folder)
        if entry.name.endswith(".prom")
    )


def _stale_from_s(entry: os.DirEntry[str]) -> float:
    """From when on a file is stale: as its first line says, or never where it is not ours.

    Raises:
        OSError: It cannot be read.
    """
    if entry.name.startswith(".mlflow_") and entry.name.endswith(".prom.tmp"):
        return entry.stat(follow_symlinks=False).st_mtime + _UNFINISHED_S
    if not (entry.name.startswith("mlflow_") and entry.is_file(follow_symlinks=False)):
        return math.inf
    with Path(entry.path).open("rb") as file:
        match = _FIRST_LINE.match(file.read(_MAX_FIRST_LINE))
    return float(match[1]) if match is not None else math.inf
