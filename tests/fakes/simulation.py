"""Time that passes only while a thread waits for it: schedules are tested exactly, and at once."""

from __future__ import annotations

import heapq
import itertools
import threading
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_S = 60.0
"""Longer than anything that works takes; waited for only by a test that fails."""


class Simulation(Clock):
    """A clock, and a `Condition.wait` that lets its time pass instead of waiting.

    What is to happen at some time happens in the waiting thread, so all is in one order.

    Args:
        time_s: What the clock shows first.
        began_ms: The wall time at which it showed zero.
    """

    def __init__(self, time_s: float = 0.0, began_ms: int = 1_700_000_000_000) -> None:
        self.time_s = time_s
        self._began_ms = began_ms
        self._count = itertools.count()
        self._events: list[tuple[float, int, Callable[[], object]]] = []

    def now_s(self) -> float:
        return self.time_s

    monotonic = now_s

    def wall_ms(self) -> int:
        return self._began_ms + round(self.time_s * 1000)

    def pass_time(self, seconds: float) -> None:
        """Let time pass: what a thread spends on its work; what is due meanwhile happens."""
        until_s = self.time_s + seconds
        while self._events and self._events[0][0] <= until_s:
            self._go_to_next_event()
        self.time_s = until_s

    def at(self, time_s: float, action: Callable[[], object]) -> None:
        """Do something at a time, or when next somebody waits after it."""
        heapq.heappush(self._events, (time_s, next(self._count), action))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Go on to the next event, or to the end of the timeout if that comes first."""
        until_s = None if timeout_s is None else self.time_s + timeout_s
        if self._events and (until_s is None or self._events[0][0] <= until_s):
            self._go_to_next_event()
            return True
        if until_s is None:
            raise AssertionError("a thread waits for what never happens")
        self.time_s = until_s
        return False

    def _go_to_next_event(self) -> None:
        time_s, _, action = heapq.heappop(self._events)
        self.time_s = max(self.time_s, time_s)
        action()


def join_threads(name: str) -> None:
    """Wait until no thread of this name is left."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(LONG_S)
    assert name not in {thread.name for thread in threading.enumerate()}
