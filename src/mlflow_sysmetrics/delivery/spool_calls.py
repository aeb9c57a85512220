"""The calls on spool files, which a helper process makes where the file system may hang.

Plain functions over descriptors, with the standard library alone. Each may be done twice.
"""

from __future__ import annotations

import os


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


def append_unseen(descriptor: int, data: bytes, size: int) -> int:
    """As `append`; the file looks no newer for that, where the system allows it."""
    before = os.fstat(descriptor)
    size = append(descriptor, data, size)
    if os.utime in os.supports_fd:
        os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))
    return size


def read_at(descriptor: int, start: int, size: int) -> bytes:
    """A piece of a file; empty at its end."""
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, size)
