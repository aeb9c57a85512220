"""The newest value of each series, for targets that ask for what is now."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.catalog.exported import Attributes, Kind
from mlflow_sysmetrics.catalog.exports import LAST_UPDATE, RUN_INFO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_sysmetrics.catalog.exported import Exported, Instrument
    from mlflow_sysmetrics.export.contract import Measurement, Sample

_MIN_LIFE_S = 120.0
_LIFE_INTERVALS = 3
"""A gauge that has not been read for so long is no longer what is: a GPU that is gone, say. Some
are read at every few samples only."""


class Series(NamedTuple):
    """A value of one series.

    Attributes:
        instrument: Its name, unit and kind.
        attributes: What tells it from the others of the instrument, the run's labels included.
        value: In the instrument's unit.
    """

    instrument: Instrument
    attributes: Attributes
    value: float


class RunValues:
    """What is known of one run.

    Args:
        sample: Its first.

    Attributes:
        sample: The newest.
    """

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self._newest: dict[Exported, Measurement] = {}
        self._attributes: dict[Exported, Attributes] = {}
        self.put(sample)

    @property
    def life_s(self) -> float:
        """How long a value stands for what is."""
        return max(_MIN_LIFE_S, _LIFE_INTERVALS * self.sample.run.settings.sampling_interval_s)

    def put(self, sample: Sample) -> None:
        """Take a sample."""
        self.sample = sample
        self._newest.update((each.exported, each) for each in sample.measurements)

    def series(self) -> Iterator[Series]:
        """All series of the run, as they are now."""
        labels = self.sample.labels
        oldest_s = self.sample.taken_s - self.life_s
        for exported, newest in self._newest.items():
            instrument = exported.instrument
            if newest.time_s >= oldest_s or instrument.kind is Kind.COUNTER:
                attributes = self._attributes.get(exported)
                if attributes is None:
                    attributes = self._attributes[exported] = (*labels, *exported.attributes)
                yield Series(instrument, attributes, newest.value)
        yield Series(LAST_UPDATE, labels, self.sample.taken_s)
        if self.sample.info:
            yield Series(RUN_INFO, (*labels, *self.sample.info), 1.0)
