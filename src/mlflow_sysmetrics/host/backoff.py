"""When to retry what failed: at growing intervals, or never."""

from __future__ import annotations

import math

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""Pauses between attempts: doubled after each failure, from the first to the longest."""


class Backoff:
    """Whether something that may fail is worth another try.

    Attributes:
        reason: Why the last attempt failed; None if it succeeded.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._not_before_s = -math.inf
        self._pause_s = FIRST_PAUSE_S

    def allows(self, now_s: float) -> bool:
        """Whether an attempt is due."""
        return now_s >= self._not_before_s

    @property
    def has_given_up(self) -> bool:
        """Whether there will be no further attempt."""
        return self._not_before_s == math.inf

    def succeed(self) -> None:
        """Reset after a success."""
        self.reason = None
        self._pause_s = FIRST_PAUSE_S

    def fail(self, reason: Exception, now_s: float) -> None:
        """Note a failed attempt."""
        self.reason = str(reason)
        self._not_before_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def give_up(self, reason: Exception) -> None:
        """Note that no attempt can succeed."""
        self.reason = str(reason)
        self._not_before_s = math.inf
