"""What waits to be sent, bounded."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple

MAX_POINTS = 100_000
"""Points that one run may have waiting: some 15 MB, or hours of samples."""


class Point(NamedTuple):
    """One value of one metric.

    Attributes:
        key: Metric key below the prefix.
        value: In the metric's unit.
        timestamp_ms: When it was sampled, milliseconds since the epoch.
        step: Number of the logged window, from 0 on in each opening of the run.
    """

    key: str
    value: float
    timestamp_ms: int
    step: int


class Outbox:
    """Points of one run in the order in which they were sampled.

    Attributes:
        dropped: Points that were pushed out because too many waited.
    """

    def __init__(self, max_points: int = MAX_POINTS) -> None:
        self._points: deque[Point] = deque(maxlen=max_points)
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._points)

    def add(self, points: list[Point]) -> None:
        """Append points; where there is no room the oldest make it."""
        self.dropped += max(0, len(self._points) + len(points) - (self._points.maxlen or 0))
        self._points.extend(points)

    def peek(self, count: int) -> list[Point]:
        """The oldest `count` points; they stay until they are removed."""
        return list(islice(self._points, count))

    def remove(self, points: list[Point]) -> None:
        """Take out what `peek` gave, as far as it has not been pushed out meanwhile."""
        for point in points:
            if self._points and self._points[0] is point:
                self._points.popleft()
