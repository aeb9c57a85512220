"""What the recorder of a run hands over, and to whom."""

from __future__ import annotations

import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from mlflow_sysmetrics.sampling.window import Readings

SUMMARY_PREFIX: Final = "summary/"
"""What the keys of a run's summary begin with, below `system/`."""

SAVE_TIMEOUT_S = 1.0
"""How long a sink may take, beyond its time, to save what it could not hand on."""

_FLOAT_BYTES = sys.getsizeof(0.0)
_RECORD_BYTES = 200  # the tuple, its integers, its place in a queue
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Point(NamedTuple):
    """One value of one metric, as the store gets it.

    Attributes:
        key: Metric key below the prefix; of a summary, below `system/`.
        value: In the metric's unit.
        timestamp_ms: When it was sampled, milliseconds since the epoch.
        step: Number of the logged window, counted over all openings of the run.
    """

    key: str
    value: float
    timestamp_ms: int
    step: int


class Record(NamedTuple):
    """What one run logs at one time: values, tags, a summary, or any of them.

    Attributes:
        step: Number of the record, from 0 on in each opening of the run; the step of its values.
        timestamp_ms: When it was sampled, milliseconds since the epoch; rises with the step.
        values: By metric key below the prefix, in the metrics' units.
        samples: How many samples it is made of; 0 without values.
        tags: Tags to set on the run.
        summary: Values that describe the whole run, logged at step 0; by key below `system/`, such
            as `summary/cpu_utilization_percentage_mean`, whatever the prefix.
    """

    step: int
    timestamp_ms: int
    values: Mapping[str, float]
    samples: int = 1
    tags: Mapping[str, str] = _NOTHING
    summary: Mapping[str, float] = _NOTHING

    @property
    def counts_as(self) -> int:
        """For how many samples it counts where it waits or is lost; without values, for one."""
        return self.samples or 1

    @property
    def entries(self) -> int:
        """Points and tags together, which is what a store limits."""
        return len(self.values) + len(self.summary) + len(self.tags)

    @property
    def size_bytes(self) -> int:
        """Memory that it takes; the keys are shared by all records."""
        floats = _FLOAT_BYTES * (len(self.values) + len(self.summary))
        texts = sum(map(sys.getsizeof, self.tags.values()))
        return _RECORD_BYTES + sys.getsizeof(self.values) + floats + texts

    def points(self, first_step: int) -> Iterator[Point]:
        """The points of its values, with steps counted on from `first_step`."""
        for key, value in self.values.items():
            yield Point(key, value, self.timestamp_ms, first_step + self.step)

    def summary_points(self) -> Iterator[Point]:
        """The points of its summary."""
        for key, value in self.summary.items():
            yield Point(key, value, self.timestamp_ms, 0)


class Sink(Protocol):
    """Takes the records of one run, from the sampler's thread, and closes with the run."""

    def take(self, sample: Sequence[Readings]) -> None:  # noqa: ARG002 - not all want it
        """Take a sample before it becomes part of a record; never blocks, and may do nothing."""
        return

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
