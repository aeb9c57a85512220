"""What findings and the summary are made from: one run, or what one node did of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_sysmetrics.insight.statistics import Statistic

_LONGEST_WARM_UP_S = 300.0
_WARM_UP_SHARE = 0.1


class Known(Enum):
    """How it is known which GPUs are the run's."""

    GIVEN = "given to the run: by a variable, a scheduler or a device plugin"
    HELD = "held by a process of the run's tree"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class RunGpus:
    """The GPUs of the run.

    Attributes:
        indices: Their numbers, as in the metrics' keys; all that have metrics where not known.
        known: How that is known.
    """

    indices: tuple[int, ...] = ()
    known: Known = Known.UNKNOWN

    @property
    def are_known(self) -> bool:
        """Whether they are the run's for certain."""
        return self.known is not Known.UNKNOWN


@dataclass(frozen=True)
class NodeGpus:
    """How much one node of a run uses of its GPUs.

    Attributes:
        mean: Their utilisation since the first use, in percent.
        is_certain: Whether they are the run's for certain.
    """

    mean: float
    is_certain: bool


@dataclass(frozen=True)
class RunView:
    """One run as rules see it.

    Attributes:
        statistics: By metric key as in the catalog: below `system/`, without a node's part.
        started_s: When sampling began, seconds since the epoch.
        duration_s: Seconds that the run has lasted.
        samples: Number of samples.
        largest_gap_s: Longest time between two samples.
        interval_s: Usual time between two samples.
        facts: The run's tags.
        gpus: Which GPUs are the run's.
        node: Name of the node where the run has several, such as `node_1`.
        node_gpus: What each node uses of its GPUs, by its name, where the run has several and this
            is the view of them all; None for a node whose GPUs cannot be judged.
        has_ended: False while the run goes on.
        is_mlflows_own: Whether the metrics are of MLflow's own monitor.
        is_outermost: False where another run is open around this one, or beside it, with the same
            process tree: then that one answers for the tree, for waste and for cost.
    """

    statistics: Mapping[str, Statistic]
    started_s: float
    duration_s: float
    samples: int
    largest_gap_s: float = 0.0
    interval_s: float = 10.0
    facts: Mapping[str, str] = field(default_factory=dict)
    gpus: RunGpus = field(default_factory=RunGpus)
    node: str | None = None
    node_gpus: Mapping[str, NodeGpus | None] = field(default_factory=dict)
    has_ended: bool = True
    is_mlflows_own: bool = False
    is_outermost: bool = True

    @property
    def warmed_up_s(self) -> float:
        """When the warm-up is over: after 10 % of the run, 5 minutes at most; since the epoch."""
        return self.started_s + min(self.duration_s * _WARM_UP_SHARE, _LONGEST_WARM_UP_S)

    @property
    def ended_s(self) -> float:
        """When it ended, or the time up to which it is known; seconds since the epoch."""
        return self.started_s + self.duration_s

    def get(self, key: str) -> Statistic | None:
        """The statistic of a metric; None where there is none."""
        return self.statistics.get(key)

    def share_where(
        self, conditions: Mapping[str, Callable[[float], bool]], since_s: float = 0.0
    ) -> float | None:
        """Share of the time in which several metrics fulfilled their conditions at once.

        Args:
            conditions: For each metric, what the mean of a bucket has to fulfil.
            since_s: Buckets that begin before this are left out; seconds since the epoch.

        Returns:
            From 0 to 1, of the time for which all these metrics are known; None where they never
            are.
        """
        found = [self.statistics.get(key) for key in conditions]
        statistics = [each for each in found if each is not None]
        if not statistics or len(statistics) < len(found):
            return None
        known_s = true_s = 0.0
        for number, start_s in enumerate(statistics[0].bucket_starts_s()):
            means = [each.buckets[number] for each in statistics]
            if start_s < since_s or any(mean is None for mean in means):
                continue
            covered_s = min(each.bucket_covered_s[number] for each in statistics)
            known_s += covered_s
            if all(
                holds(mean)
                for holds, mean in zip(conditions.values(), means, strict=True)
                if mean is not None
            ):
                true_s += covered_s
        return true_s / known_s if known_s else None
