"""What the recorder of a run hands over, and to whom."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SAVE_TIMEOUT_S = 1.0
"""How long a sink may take, beyond its time, to save what it could not hand on."""

_FLOAT_BYTES = sys.getsizeof(0.0)
_RECORD_BYTES = 200  # the tuple, its integers, its place in a queue


class Point(NamedTuple):
    """One value of one metric, as the store gets it.

    Attributes:
        key: Metric key below the prefix.
        value: In the metric's unit.
        timestamp_ms: When it was sampled, milliseconds since the epoch.
        step: Number of the logged window, counted over all openings of the run.
    """

    key: str
    value: float
    timestamp_ms: int
    step: int


class Record(NamedTuple):
    """The values that one run logs at one time.

    Attributes:
        step: Number of the logged window, from 0 on in each opening of the run.
        timestamp_ms: When it was sampled, milliseconds since the epoch; rises with the step.
        values: By metric key below the prefix, in the metrics' units.
        samples: How many samples it is made of.
    """

    step: int
    timestamp_ms: int
    values: Mapping[str, float]
    samples: int = 1

    @property
    def size_bytes(self) -> int:
        """Memory that it takes; the keys are shared by all records."""
        return _RECORD_BYTES + sys.getsizeof(self.values) + _FLOAT_BYTES * len(self.values)

    def points(self, first_step: int) -> Iterator[Point]:
        """Its points, with steps counted on from `first_step`."""
        for key, value in self.values.items():
            yield Point(key, value, self.timestamp_ms, first_step + self.step)


class Sink(Protocol):
    """Takes the records of one run, from the sampler's thread, and closes with the run."""

    def put(self, record: Record) -> None:
        """Take a record; never blocks."""

    def end(self) -> None:
        """No record will follow; returns at once."""

    def close(self, timeout_s: float) -> None:
        """Hand on what waits.

        Args:
            timeout_s: For how long to wait at most, beside `SAVE_TIMEOUT_S`; 0 or less for no
                longer than that.
        """
