"""When to try again what failed: at growing intervals, or never."""

from __future__ import annotations

import math

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""How long what failed is left alone: each time twice as long, up to this."""


class Backoff:
    """Whether something that may fail is worth another try.

    Attributes:
        reason: Why the last try failed; None where it did not.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._not_before_s = -math.inf
        self._pause_s = FIRST_PAUSE_S

    def allows(self, now_s: float) -> bool:
        """Whether to try it now."""
        return now_s >= self._not_before_s

    @property
    def has_given_up(self) -> bool:
        """Whether it will never be tried again."""
        return self._not_before_s == math.inf

    def succeed(self) -> None:
        """Reset after a success."""
        self.reason = None
        self._pause_s = FIRST_PAUSE_S

    def fail(self, reason: Exception, now_s: float) -> None:
        """It failed now."""
        self.reason = str(reason)
        self._not_before_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def give_up(self, reason: Exception) -> None:
        """It will never work."""
        self.reason = str(reason)
        self._not_before_s = math.inf
