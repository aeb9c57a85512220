"""Forks happen while no thread of ours is inside a library.

A child inherits locks in their current state, but not the threads that would release them. If it is
forked while our thread is inside MLflow's client, psutil or a GPU driver's library, it may hang on
a lock of that library. So a fork waits, for a bounded time, until our threads have left such calls.
If a call hangs, only the first fork waits for it.
"""

from __future__ import annotations

import os
import threading
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORK_WAIT_S = 1.0
"""Longest time that a fork waits for all workers together."""


class ForkOrder(Enum):
    """The order in which a fork waits: for the sampler before the collectors that it calls."""

    FOLLOWER = auto()
    UPLOADER = auto()
    EXPORTER = auto()
    SAMPLER = auto()
    COLLECTOR = auto()


class CallLock:
    """Held by a worker's thread while it is in a library, and by a fork in between."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._calls = 0
        self._waited_for: int | None = None  # the call that has outlasted a fork's wait

    def __enter__(self) -> None:
        self._lock.acquire()
        self._calls += 1

    def __exit__(self, *_exception: object) -> None:
        self._lock.release()

    def acquire(self, timeout: float) -> bool:
        """Acquire for a fork; wait at most once for the same hanging call.

        Args:
            timeout: Longest wait, in seconds.

        Returns:
            Whether the lock is held, until `release`.
        """
        call = self._calls
        is_free = self._lock.acquire(timeout=0.0 if call == self._waited_for else timeout)
        if not is_free and timeout > 0:
            self._waited_for = call
        return is_free

    def release(self) -> None:
        """Release what `acquire` has acquired."""
        self._lock.release()


class Worker(Protocol):
    """An object with a background thread.

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


def after_fork_in_child(callback: Callable[[], None]) -> None:
    """Call a function in every child that is forked from now on; Windows has no forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def hold_during_fork(worker: Worker, turn: ForkOrder) -> None:
    """Make every later fork wait until a worker is not busy, and keep the worker idle meanwhile."""
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
