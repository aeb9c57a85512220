"""When to retry what failed: at growing intervals, or never."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""Pauses between attempts: doubled after each failure, from the first to the longest."""

_random = random.Random()  # noqa: S311 - no secret


def jitter(lowest: float, highest: float) -> float:
    """A part of a pause, so that not all come at one time.

    The generator is our own: a program that seeds Python's gets the same numbers with us.
    """
    return _random.uniform(lowest, highest)


class Backoff:
    """Whether something that may fail is worth another try.

    Args:
        longest_s: The longest pause that it comes to.
        jitter: Gives the part of a pause that is kept, so that not all come at one time.

    Attributes:
        reason: Why the last attempt failed; None if it succeeded.
        failures: Failed attempts in a row.
        not_before_s: When the next attempt is due.
    """

    def __init__(
        self, longest_s: float = LONGEST_PAUSE_S, jitter: Callable[[], float] = lambda: 1.0
    ) -> None:
        self.reason: str | None = None
        self.failures = 0
        self.not_before_s = -math.inf
        self._longest_s = longest_s
        self._jitter = jitter

    def allows(self, now_s: float) -> bool:
        """Whether an attempt is due."""
        return now_s >= self.not_before_s

    @property
    def has_given_up(self) -> bool:
        """Whether there will be no further attempt."""
        return self.not_before_s == math.inf

    def succeed(self) -> None:
        """Reset after a success."""
        self.reason = None
        self.failures = 0

    def fail(self, reason: Exception | None, now_s: float, pause_s: float | None = None) -> None:
        """Note a failed attempt.

        Args:
            reason: Why.
            now_s: The time.
            pause_s: Time until the next attempt; None for twice the last pause.
        """
        self.reason = str(reason)
        if pause_s is None:
            doubled_s = FIRST_PAUSE_S * 2 ** min(self.failures, 16)
            pause_s = min(doubled_s, self._longest_s) * self._jitter()
        self.not_before_s = now_s + pause_s
        self.failures += 1

    def give_up(self, reason: Exception) -> None:
        """Note that no attempt can succeed."""
        self.reason = str(reason)
        self.not_before_s = math.inf
