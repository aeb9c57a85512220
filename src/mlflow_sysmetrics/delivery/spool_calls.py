"""The calls on spool files, which a helper process makes where the file system may hang.

Plain functions over descriptors, with the standard library alone. Each may be done twice.
"""

from __future__ import annotations

import os
from contextlib import suppress
from stat import S_ISREG

_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)


def make_folder(path: str) -> None:
    """Make a folder, private to the user, and those above it."""
    if not os.path.isdir(path):  # noqa: PTH112 - as strings are sent
        above = os.path.dirname(path)  # noqa: PTH120 - as above
        if above != path:
            os.makedirs(above, exist_ok=True)  # noqa: PTH103 - as above
        with suppress(FileExistsError):  # another process was first
            os.mkdir(path, 0o700)  # noqa: PTH102 - as above


def list_folder(folder: str, suffix: str) -> list[tuple[str, float, int]]:
    """Name, time of the last change, and size of the files with a suffix, the oldest first."""
    found = []
    for name in os.listdir(folder):  # noqa: PTH208 - as above
        if name.endswith(suffix):
            with suppress(OSError):  # sent and deleted meanwhile
                stat = os.stat(f"{folder}/{name}")  # noqa: PTH116 - as above
                if S_ISREG(stat.st_mode):
                    found.append((name, stat.st_mtime, stat.st_size))
    return sorted(found, key=lambda each: each[1])


def create_file(path: str) -> int:
    """Open a new file."""
    return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)


def open_file(path: str) -> int:
    """Open a file that is there."""
    return os.open(path, _FLAGS)


def file_state(descriptor: int) -> tuple[int, int, float]:
    """Size, number of names, time of the last change."""
    stat = os.fstat(descriptor)
    return stat.st_size, stat.st_nlink, stat.st_mtime


def append(descriptor: int, data: bytes, size: int) -> int:
    """Add to a file of a known size, all or nothing; returns the new size.

    What lies beyond the known size was written for somebody who did not wait for it any more, and
    who writes it again.
    """
    try:
        if os.fstat(descriptor).st_size > size:
            os.ftruncate(descriptor, size)
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except BaseException:  # Ctrl-C, too: what is written counts, or is cut off
        os.ftruncate(descriptor, size)  # no half lines
        raise
    return size + written


def read_at(descriptor: int, start: int, size: int) -> bytes:
    """A piece of a file; empty at its end."""
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, size)
