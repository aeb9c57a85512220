"""Monotonic totals: of counters that may reset, of many counters, or of a rate over time."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MIN_SPAN_S = 0.1
"""Over less time a slope says nothing: the counters move in milliseconds."""

_MIN_GAP_S = 60.0
_GAP_FACTOR = 3
_RECENT_STEPS = 4
"""A step so much longer than each of those before it is a gap: the machine slept, or nothing
answered. What was in it is not known, and nothing is made up for it."""


_MOST_BYTES = 1 << 50
"""No disk or network transfers so much between two samples: the counter was misread, or reset."""


class KeyedTotal:
    """The sum of what counters under changing keys (interfaces, disks) rose by.

    A counter that vanishes leaves what it rose by in the total. One that falls was reset, and is
    followed from its new value on. The first update sets where each counter starts; a key that
    comes later, or comes back, starts at the value it is first seen with, too.
    """

    def __init__(self) -> None:
        self._previous: dict[str, float] = {}
        self._total = 0.0

    def update(self, values: Mapping[str, float]) -> float:
        """Take in the counters as they stand, and return the total since the first update."""
        for key, value in values.items():
            rise = value - self._previous.get(key, value)
            if 0 < rise < _MOST_BYTES:
                self._total += rise
        self._previous = dict(values)
        return self._total


class RisingTotal:
    """What one counter rose by; where it falls it was reset, and is followed from there on."""

    def __init__(self) -> None:
        self._previous: float | None = None
        self._total = 0.0

    def update(self, value: float, _now_s: float) -> float:
        """Take in the counter as it stands, and return the total since the first update."""
        if self._previous is not None:
            self._total += max(0.0, value - self._previous)
        self._previous = value
        return self._total


class Integral:
    """Trapezoidal integral of a rate; nothing is added for a gap."""

    def __init__(self) -> None:
        self._previous: tuple[float, float] | None = None
        self._steps = _Steps()
        self._total = 0.0

    def update(self, rate: float, now_s: float) -> float:
        """Take in the rate a second as it is now, and return the total since the first update."""
        if self._previous is not None:
            previous_rate, previous_s = self._previous
            step_s = max(0.0, now_s - previous_s)
            if not self._steps.is_gap(step_s):
                self._total += (previous_rate + rate) / 2 * step_s
        self._previous = (rate, now_s)
        return self._total


class Slope:
    """How much a counter rises a second."""

    def __init__(self) -> None:
        self._previous: tuple[float, float] | None = None
        self._steps = _Steps()

    def update(self, value: float, now_s: float) -> float | None:
        """The slope since the update before; None at the first, too soon, after a reset or gap."""
        if self._previous is None:
            self._previous = (value, now_s)
            return None
        previous_value, previous_s = self._previous
        step_s = now_s - previous_s
        if step_s < _MIN_SPAN_S:
            return None
        self._previous = (value, now_s)
        rise = value - previous_value
        return rise / step_s if not self._steps.is_gap(step_s) and rise >= 0 else None


class _Steps:
    """Tells steps from gaps, however long the interval of the samples is.

    Samples as runs open and close make some steps short, so several are looked at.
    """

    def __init__(self) -> None:
        self._recent_s = deque([math.inf] * _RECENT_STEPS, maxlen=_RECENT_STEPS)

    def is_gap(self, step_s: float) -> bool:
        """Take in a step; the first few pass for what they are."""
        longest_s = max(_MIN_GAP_S, _GAP_FACTOR * max(self._recent_s))
        self._recent_s.append(step_s)
        return step_s > longest_s
