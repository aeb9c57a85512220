"""What every collector does."""

from __future__ import annotations

from typing import Protocol


class Collector(Protocol):
    """What the sampler asks for readings, always from one thread."""

    def collect(self) -> dict[str, float]:
        """Readings by name. Whatever it raises costs this collector's readings of this tick."""

    def close(self) -> None:
        """Let go of what is held; may be called twice. Most collectors hold nothing."""
        return  # without a body, it would be abstract
