"""Locks on files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
import sys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOCKED_BYTE = 2**40  # Windows locks bytes; nobody reads this one


_LOCKED = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
"""What tells that another process has it; every other error, that there are no locks."""


def lock_file(descriptor: int, *, wait: bool, shared: bool = False) -> bool:
    """Lock a file for this process, which may lock it again; to close it ends the lock.

    Args:
        descriptor: The file, open for writing; with `shared`, for reading.
        wait: Whether to wait while another process has it locked.
        shared: Whether others may lock it in this way, too.

    Returns:
        Whether it is locked now; False where its file system has no locks (some NFS and Lustre).

    Raises:
        OSError: Another process has it locked.
    """
    try:
        _lock(descriptor, wait=wait, shared=shared)
    except OSError as error:
        if error.errno in _LOCKED:
            raise
        return False
    return True


def _lock(descriptor: int, *, wait: bool, shared: bool) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        # Unlike flock's, this lock is not shared with forked children, and works on NFS.
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.lockf(descriptor, kind if wait else kind | fcntl.LOCK_NB)
