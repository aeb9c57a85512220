"""What is kept of a part of a run, in one tag: for when it is resumed, or has several nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.insight.packed import packed, unpacked
from mlflow_sysmetrics.insight.statistics import Moment, Statistic, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COARSEST = 16

_ADDED = {"gpu/power_usage_watts"}
"""What nodes use at the same time: the mean is what all used, over the time of the longest."""


@dataclass(frozen=True)
class Part:
    """What a summary needs to know of a part of a run, or of one node's.

    Attributes:
        statistics: By metric key, without buckets.
        started_s: When it began, seconds since the epoch.
        duration_s: How long it lasted.
        samples: Number of samples.
        gpu_hours: Of the run's GPUs; None where it is not known which those are.
        gpu_hours_wasted: None where that could not be judged.
        gpu_memory_percentage: Most memory in use on one of the run's GPUs; None where not known.
    """

    statistics: Mapping[str, Statistic]
    started_s: float
    duration_s: float
    samples: int
    gpu_hours: float | None = None
    gpu_hours_wasted: float | None = None
    gpu_memory_percentage: float | None = None

    @property
    def ended_s(self) -> float:
        """When its last value was, seconds since the epoch; when it began, without values."""
        last_s = (each.last.time_s for each in self.statistics.values())
        return max(last_s, default=self.started_s)

    def to_text(self, limit: int = MAX_TAG_LENGTH) -> str:
        """As a tag has it: as exact as there is room for, the first metrics first.

        Args:
            limit: How long it may be.
        """
        kept = dict(self.statistics)
        step = 1
        while len(text := self._packed(kept, step)) > limit and kept:
            if step < _COARSEST:
                step *= 2
            else:
                kept = dict(list(kept.items())[: len(kept) * 3 // 4])
        return text

    def _packed(self, statistics: Mapping[str, Statistic], step: int) -> str:
        found = {
            "t": round(self.started_s, 3),
            "d": round(self.duration_s, 3),
            "n": self.samples,
            "g": self.gpu_hours,
            "w": self.gpu_hours_wasted,
            "p": self.gpu_memory_percentage,
            "m": {key: _row(each, self.started_s, step) for key, each in statistics.items()},
        }
        return packed(found)

    @classmethod
    def from_text(cls, text: str) -> Part | None:
        """What a tag says; None for what is no such tag."""
        try:
            found = unpacked(text)
            return cls(
                {key: _statistic(key, row, found["t"]) for key, row in found["m"].items()},
                found["t"],
                found["d"],
                found["n"],
                found["g"],
                found["w"],
                found["p"],
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def together(parts: Iterable[Part]) -> Part:
    """Parts that follow each other as one, the first given first."""
    all_parts = list(parts)
    return Part(
        merged(each for part in all_parts for each in part.statistics.values()),
        min(part.started_s for part in all_parts),
        sum(part.duration_s for part in all_parts),
        sum(part.samples for part in all_parts),
        _sum(part.gpu_hours for part in all_parts),
        _sum(part.gpu_hours_wasted for part in all_parts),
        max(_known(part.gpu_memory_percentage for part in all_parts), default=None),
    )


def beside(parts: Iterable[Part]) -> Part:
    """What several nodes did at the same time as one."""
    all_parts = list(parts)
    if len(all_parts) == 1:
        return all_parts[0]
    whole = together(all_parts)
    statistics = {
        key: replace(each, mean=_added_mean(all_parts, key)) if key in _ADDED else each
        for key, each in whole.statistics.items()
    }
    longest_s = max(part.duration_s for part in all_parts)
    return replace(whole, statistics=statistics, duration_s=longest_s)


def _added_mean(parts: Iterable[Part], key: str) -> float:
    of_nodes = [part.statistics[key] for part in parts if key in part.statistics]
    longest_s = max(each.covered_s for each in of_nodes)
    if not longest_s:
        return sum(each.mean for each in of_nodes)
    return sum(each.integral for each in of_nodes) / longest_s


def _sum(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return sum(known) if known else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [each for each in values if each is not None]


def _row(each: Statistic, start_s: float, step: int) -> list[Any]:
    numbers = (each.covered_s, each.mean, each.minimum, each.maximum)
    ends = (each.first.time_s - start_s, each.first.value, each.last.time_s - start_s)
    bins: dict[int, float] = {}
    for number, covered_s in each.bins.items():
        middle = number // step * step + step // 2
        bins[middle] = bins.get(middle, 0.0) + covered_s
    return [
        each.samples,
        *map(_short, numbers),
        each.total if each.total is None else _short(each.total),
        *map(_short, (*ends, each.last.value)),
        [part for number in sorted(bins) for part in (number, _short(bins[number]))],
    ]


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _statistic(key: str, row: list[Any], start_s: float) -> Statistic:
    samples, covered_s, mean, minimum, maximum, total, first_s, first, last_s, last, bins = row
    return Statistic(
        key=key,
        samples=int(samples),
        covered_s=float(covered_s),
        mean=float(mean),
        minimum=float(minimum),
        maximum=float(maximum),
        total=total if total is None else float(total),
        first=Moment(start_s + first_s, float(first)),
        last=Moment(start_s + last_s, float(last)),
        grid_start_s=start_s,
        bucket_s=1.0,
        buckets=(),
        bucket_covered_s=(),
        bins={int(number): float(s) for number, s in zip(bins[::2], bins[1::2], strict=True)},
    )
