"""How long a host waits until it looks for its run again."""

from __future__ import annotations

from mlflow_sysmetrics.host.backoff import jitter

GIVE_UP_S = 1800.0
"""A host that has found no run for so long looks for none any more."""

FIRST_S = 2.0
EAGER_S = 10.0
"""Longest pause at first, and of a host whose run has just ended."""

EAGER_FOR_S = 120.0
LONGEST_S = 60.0
"""Longest pause later."""

JOINED_S = 30.0
"""Pause of a host that has a run, until it looks whether that is open still, and for others."""

_COST_FACTOR = 50
"""A look through many files may be expensive: then it is taken less often."""


class Pauses:
    """Growing pauses between looks that find nothing."""

    def __init__(self, now_s: float) -> None:
        self._began_s = now_s
        self._next_s = FIRST_S

    def begin(self, now_s: float) -> None:
        """Look eagerly again, as at first."""
        self._began_s = now_s
        self._next_s = FIRST_S

    def is_eager(self, now_s: float) -> bool:
        """Whether a run may be expected to open soon."""
        return now_s - self._began_s < EAGER_FOR_S

    def is_over(self, now_s: float) -> bool:
        """Whether it is time to give up."""
        return now_s - self._began_s >= GIVE_UP_S

    def after(self, now_s: float, cost_s: float, *, has_found: bool) -> float:
        """How long to wait after a look.

        Args:
            now_s: Now.
            cost_s: CPU time that it took.
            has_found: Whether a run is being sampled.
        """
        if has_found:
            pause_s = JOINED_S
        else:
            pause_s = min(self._next_s, EAGER_S if self.is_eager(now_s) else LONGEST_S)
            self._next_s = min(2 * self._next_s, LONGEST_S)
        least_s = min(_COST_FACTOR * cost_s, LONGEST_S)
        return max(pause_s, least_s) * jitter(0.75, 1.0)
