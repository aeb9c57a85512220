"""Who looks at every sample of a run, and may have something to say of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.sampling.window import Readings


@dataclass(frozen=True)
class Notes:
    """What is to be logged of the run as a whole.

    Attributes:
        tags: Tags to set.
        summary: Values by key below `system/`.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tags or self.summary)


class Observer(Protocol):
    """Gets every sample, with all metrics, also those that are not logged."""

    def take(self, sample: Sequence[Readings]) -> Notes:
        """Take one sample; what is to be logged now."""

    def close(self) -> Notes:
        """No sample will follow; what is to be logged last."""
