"""How often a dear reading may be taken."""

from __future__ import annotations


class CpuBudget:
    """Allows a reading while its measured cost stays under a share of the time that passed.

    Args:
        share: CPU seconds a second; 0.005 is half a percent of one core.
        began_s: When time began to pass.
        at_once_s: What the first reading may cost although no time has passed yet.
    """

    def __init__(self, share: float, began_s: float, at_once_s: float) -> None:
        self._share = share
        self._began_s = began_s
        self._at_once_s = at_once_s
        self._spent_s = 0.0

    def allows(self, cost_s: float, now_s: float) -> bool:
        """Whether a reading of that cost fits in, judged by what was spent so far."""
        if not self._spent_s and cost_s <= self._at_once_s:
            return True
        return self._spent_s + cost_s <= self._share * (now_s - self._began_s)

    def spend(self, cost_s: float) -> None:
        """Record what a reading cost."""
        self._spent_s += cost_s
