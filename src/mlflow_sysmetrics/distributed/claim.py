"""Who does a thing for all processes of a host: the one that holds the claim.

A claim is the name of an abstract socket on Linux, and the lock on one byte of a file elsewhere.
Neither needs privileges, and both end with the process that holds them, however it ends.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path

from mlflow_sysmetrics.host.descriptors import identity_of
from mlflow_sysmetrics.host.forks import after_fork_in_child

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_HAS_ABSTRACT_SOCKETS = sys.platform == "linux"
_PENDING = 128  # processes that may ask who holds a claim
_HELD_BY_OTHERS = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


class Claim:
    """The right to do a thing, which one process of a host has at a time.

    Where the system has neither sockets nor locks to offer, every process gets it.

    Args:
        domain: The processes that claim the same thing.
        what: The thing.
    """

    def __init__(self, domain: str, what: str) -> None:
        name = hashlib.sha256(f"{domain}\n{what}".encode(errors="replace")).hexdigest()
        self._address = f"\0mlflow-sysmetrics/{name}"
        self._byte = int(name[:8], 16) >> 1  # Windows takes 31 bits
        self._socket: int | None = None  # a descriptor
        self._identity: tuple[int, int] | None = None
        self._visitors: list[socket.socket] = []
        self._has_byte = False

    def acquire(self) -> bool:
        """Try to get it; False while another process, or another claim of this one, has it."""
        return self._bind() if _HAS_ABSTRACT_SOCKETS else self._lock()

    def holder(self) -> int | None:
        """The process that has it; None where that cannot be told."""
        if not _HAS_ABSTRACT_SOCKETS:
            return None
        with socket.socket(socket.AF_UNIX) as asking:
            asking.setblocking(False)  # noqa: FBT003 - Python's signature
            try:
                asking.connect(self._address)
                credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            except OSError:
                return None
        pid: int = struct.unpack("3i", credentials)[0]
        return pid or None

    def visit(self) -> socket.socket | None:
        """Report to the process that has it.

        Returns:
            A connection that ends with that process; None where no process has it, or the system
            has no such sockets.
        """
        if not _HAS_ABSTRACT_SOCKETS:
            return None
        visiting = socket.socket(socket.AF_UNIX)
        visiting.setblocking(False)  # noqa: FBT003 - Python's signature
        try:
            visiting.connect(self._address)
        except OSError:
            visiting.close()
            return None
        return visiting

    def visitors(self) -> list[int]:
        """The processes of this user that have reported since the last call."""
        pids: list[int] = []
        while (visitor := self._accept()) is not None:
            self._visitors.append(visitor)
            credentials = visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, user, _ = struct.unpack("3i", credentials)
            if pid and user == os.getuid():
                pids.append(pid)
        return pids

    def _accept(self) -> socket.socket | None:
        """The next connection; None where there is none now."""
        if self._socket is None or identity_of(self._socket) != self._identity:
            return None
        listening = socket.socket(fileno=os.dup(self._socket))
        listening.setblocking(False)  # noqa: FBT003 - Python's signature
        try:
            return listening.accept()[0]
        except OSError:
            return None
        finally:
            listening.close()

    def release(self) -> None:
        """Let another process have it."""
        _held.discard(self)
        self._close()
        if self._has_byte:
            self._has_byte = False
            _locked_bytes.unlock(self._byte)

    def _bind(self) -> bool:
        try:
            bound = socket.socket(socket.AF_UNIX)
        except OSError:
            return True
        try:
            bound.bind(self._address)
            bound.listen(_PENDING)
        except OSError as error:
            bound.close()
            return error.errno != errno.EADDRINUSE
        self._socket = bound.detach()
        self._identity = identity_of(self._socket)
        _held.add(self)
        return True

    def _lock(self) -> bool:
        try:
            self._has_byte = _locked_bytes.lock(self._byte)
        except OSError:
            return True
        if self._has_byte:
            _held.add(self)
        return self._has_byte

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""
        self._close()
        self._has_byte = False

    def _close(self) -> None:
        descriptor, self._socket = self._socket, None
        if descriptor is not None and identity_of(descriptor) == self._identity:
            os.close(descriptor)
        while self._visitors:
            self._visitors.pop().close()


class _LockedBytes:
    """The bytes of one file that this process has locked.

    A system forgets all locks of a process on a file when it closes any descriptor of it, so there
    is one, and it stays open. Where the program closes it, nothing is locked any more.
    """

    def __init__(self) -> None:
        self._bytes: set[int] = set()
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._guard = threading.Lock()

    def lock(self, byte: int) -> bool:
        """Lock a byte; False where it is locked.

        Raises:
            OSError: There are no locks.
        """
        with self._guard:
            descriptor = self._opened()
            if byte in self._bytes:
                return False
            try:
                _lock_byte(descriptor, byte)
            except OSError as error:
                if error.errno in _HELD_BY_OTHERS:
                    return False
                raise
            self._bytes.add(byte)
            return True

    def unlock(self, byte: int) -> None:
        """Unlock a byte."""
        with self._guard:
            self._bytes.discard(byte)
            if self._descriptor is not None and self._is_ours(self._descriptor):
                _unlock_byte(self._descriptor, byte)

    def _is_ours(self, descriptor: int) -> bool:
        """Whether nobody has closed it, and perhaps opened something else there."""
        return identity_of(descriptor) == self._identity

    def _opened(self) -> int:
        if self._descriptor is None or not self._is_ours(self._descriptor):
            self._bytes.clear()
            user = os.getuid() if hasattr(os, "getuid") else ""
            path = Path(tempfile.gettempdir()) / f"mlflow-sysmetrics-{user}.lock"
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self._descriptor = os.open(path, flags, 0o600)
            self._identity = identity_of(self._descriptor)
        return self._descriptor


def _lock_byte(descriptor: int, byte: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, byte, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:  # not shared with forked children
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)


def _unlock_byte(descriptor: int, byte: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, byte, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)


_held: set[Claim] = set()
_locked_bytes = _LockedBytes()


def _forget_all() -> None:
    """A forked child holds no claim of its parent's."""
    global _locked_bytes  # noqa: PLW0603 - the parent's locks are not the child's
    for claim in list(_held):
        claim.forget()
    _held.clear()
    _locked_bytes = _LockedBytes()


after_fork_in_child(_forget_all)
