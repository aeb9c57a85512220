"""What a metric and a tag are, and what all their descriptions share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PREFIX = "system/"
"""Prefix of all metric keys; MLflow's UI shows them in the *System metrics* tab."""

PROCESS_PREFIX = "process/"
"""Prefix of the process tree's keys, below `PREFIX`."""

MAX_TAG_LENGTH = 5000
"""Longest tag value that every MLflow store since 2.16 accepts, in bytes of UTF-8.

MLflow counts characters (5,000, later 8,000), some stores count bytes.
"""

LINUX = "Linux"
LINUX_AND_MACOS = "Linux, macOS"
LINUX_AND_WINDOWS = "Linux, Windows"
EVERYWHERE = "Linux, macOS, Windows"

BYTES_TO_MEGABYTES = 1e-6
"""Scale of a metric in megabytes whose reading is in bytes."""


class Aggregate(Enum):
    """How the readings of one logging window become one value."""

    MEAN = "mean of the window's samples"
    RATE = "rate over the window"
    TOTAL = "increase since the run opened"


@dataclass(frozen=True)
class Metric:
    """One logged metric.

    Attributes:
        key: Key below `system/`; `{index}` stands for the number of a GPU or another
            accelerator, `{instance}` for that of a MIG instance on it.
        unit: Unit of the logged value.
        aggregate: How samples become a value.
        meaning: What it says, for the reference.
        source: Where the numbers come from.
        absent: When there is no such key.
        reading: Name of the reading it is computed from; the key itself for gauges.
        scale: Factor from the reading's unit to `unit`.
        per: For rates, the counter to divide by; None for seconds.
        platforms: The operating systems that have it.
    """

    key: str
    unit: str
    aggregate: Aggregate
    meaning: str
    source: str
    absent: str = "never"
    reading: str = ""
    scale: float = 1.0
    per: str | None = None
    platforms: str = EVERYWHERE

    def __post_init__(self) -> None:
        if not self.reading:
            object.__setattr__(self, "reading", self.key)


@dataclass(frozen=True)
class Tag:
    """One run tag.

    Attributes:
        key: Tag key; `{index}` stands for the number of a host of several.
        meaning: What it says, for the reference.
        example: A value as it is logged.
        source: Where the value comes from.
        absent: When there is no such tag.
        platforms: The operating systems that have it.
    """

    key: str
    meaning: str
    example: str
    source: str
    absent: str = "never"
    platforms: str = EVERYWHERE
