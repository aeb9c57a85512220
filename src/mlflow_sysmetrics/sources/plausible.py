"""Figures that no machine has: drivers and firmware report so what they cannot measure."""

from __future__ import annotations

_MOST = {
    "percentage": 1000.0,  # of shared memory, a power limit, a fan's usual speed
    "watts": 1e6,
    "celsius": 1e3,
    "megahertz": 1e5,
    "megabytes": 1e11,
}
"""By the unit, which is the last word of a reading's name."""

_MOST_OTHERWISE = float(1 << 63)


def is_plausible(reading: str, value: float) -> bool:
    """Whether a reading can be true: not negative, not NaN, not beyond all measure."""
    if reading.endswith("utilization_percentage"):
        return 0 <= value <= 100  # noqa: PLR2004 - percent
    return 0 <= value < _MOST.get(reading.rpartition("_")[2], _MOST_OTHERWISE)
