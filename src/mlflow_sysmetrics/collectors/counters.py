"""Totals over many counters that come, go, and start anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class KeyedTotal:
    """Adds up what many counters rise by; the total never falls.

    A counter that fell has been reset or has wrapped: it is counted on from its new value. One
    that is gone leaves in the total what it had added.

    Args:
        counts_from_zero: Whether a counter seen for the first time counts whole, as a new
            process's does, or only from there on, as a new network interface's does.
    """

    def __init__(self, *, counts_from_zero: bool = False) -> None:
        self._counts_from_zero = counts_from_zero
        self._previous: Mapping[Any, float] = {}
        self._total = 0.0

    def update(self, values: Mapping[Any, float]) -> float:
        """Take the counters' present values by key; return the total."""
        for key, value in values.items():
            start = 0.0 if self._counts_from_zero else value
            self._total += max(0.0, value - self._previous.get(key, start))
        self._previous = dict(values)
        return self._total
