"""The time of samples."""

from __future__ import annotations

import time


class Clock:
    """Time that never jumps, for intervals, and wall time, for timestamps."""

    # These clocks, Linux's and macOS', also count a laptop's sleep: timestamps stay right after it.
    _CLOCK_ID: int | None = getattr(
        time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", None)
    )

    def now_s(self) -> float:
        """Seconds on a clock that never goes back."""
        if self._CLOCK_ID is None:
            return time.monotonic()
        return time.clock_gettime(self._CLOCK_ID)

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000
