"""Forks: no thread of ours is inside somebody's library while one happens.

A child inherits locks as they stand, but not the threads that would release them. One that is
forked while our thread is inside MLflow's client, psutil or a GPU driver's library may so hang on
a lock of theirs. Hence a fork waits, for a bounded time, until our threads are out of them; but for
a call that hangs, only the first of many forks does.
"""

from __future__ import annotations

import os
import threading
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator

FORK_WAIT_S = 1.0
"""Longest time that a fork waits for all workers together."""


class ForkOrder(Enum):
    """The order in which a fork waits: the sampler, which asks collectors, before those."""

    FOLLOWER = auto()
    UPLOADER = auto()
    SAMPLER = auto()
    COLLECTOR = auto()


class CallLock:
    """Held by a worker's thread during each call into a library, and by a fork in between."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._calls = 0
        self._waited_for: int | None = None  # the call that a fork has waited for in vain

    def __enter__(self) -> None:
        self._lock.acquire()
        self._calls += 1

    def __exit__(self, *_exception: object) -> None:
        self._lock.release()

    def acquire(self, timeout: float) -> bool:
        """Wait, for a fork, until no call is under way; but for one call only one time.

        Args:
            timeout: For how long, in seconds.

        Returns:
            Whether none is, until `release`.
        """
        call = self._calls
        is_free = self._lock.acquire(timeout=0.0 if call == self._waited_for else timeout)
        if not is_free and timeout > 0:
            self._waited_for = call
        return is_free

    def release(self) -> None:
        """End what `acquire` has begun."""
        self._lock.release()


class Worker(Protocol):
    """Whom a thread of ours works for.

    Attributes:
        busy: Held while the thread is inside a library; a forked child, which does not have the
            thread, gets a new one.
    """

    busy: CallLock


class _Held(threading.local):
    """The locks that a thread holds while it forks."""

    def __init__(self) -> None:
        self.locks: list[CallLock] = []


_workers: dict[ForkOrder, WeakValueDictionary[int, Worker]] = {
    turn: WeakValueDictionary() for turn in ForkOrder
}
_held = _Held()


def hold_during_fork(worker: Worker, turn: ForkOrder) -> None:
    """Let every fork from now on wait until a worker is not busy, and keep it from being so."""
    _workers[turn][id(worker)] = worker


def _living() -> Iterator[Worker]:
    for workers in _workers.values():
        for reference in workers.valuerefs():  # a copy: other threads may add to them meanwhile
            if (worker := reference()) is not None:
                yield worker


def _before_fork() -> None:
    deadline_s = time.monotonic() + FORK_WAIT_S
    for worker in _living():
        if worker.busy.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
            _held.locks.append(worker.busy)


def _after_fork_in_parent() -> None:
    while _held.locks:
        _held.locks.pop().release()


def _after_fork_in_child() -> None:
    _held.locks.clear()
    for worker in _living():
        worker.busy = CallLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
