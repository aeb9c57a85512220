"""Figures that no machine has: drivers and firmware report so what they cannot measure."""

from __future__ import annotations

from functools import cache

_MOST = {
    "percentage": 1000.0,  # of shared memory, a power limit, a fan's usual speed
    "watts": 1e6,
    "celsius": 1e3,
    "megahertz": 1e5,
    "megabytes": 1e11,
}
"""By the unit, which is the last word of a reading's name."""

_MOST_OTHERWISE = float(1 << 63)


@cache
def most_plausible(reading: str) -> float:
    """The most that a reading can be; none can be negative or NaN."""
    if reading.endswith("utilization_percentage"):
        return 100.0
    return _MOST.get(reading.rpartition("_")[2], _MOST_OTHERWISE)


def is_plausible(reading: str, value: float) -> bool:
    """Whether a reading can be true: not negative, not NaN, not beyond all measure."""
    return 0 <= value <= most_plausible(reading)
