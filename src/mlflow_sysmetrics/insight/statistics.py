"""Statistics of one metric in constant memory, from samples weighted by time.

A value stands for the time since the value before it. All metrics of a run share one grid of time
buckets, so that what two of them did at the same time can be compared bucket by bucket. Widths of
buckets are powers of two, in seconds, and buckets begin at multiples of them since the epoch: so
statistics of two parts of a run, or of two nodes, merge exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.catalog import Aggregate, metric_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BUCKETS = 32

_BINS_A_PERCENT = 2
"""A percentile of a percentage is exact to the half of a bin, a quarter of a percent."""

_UNBOUNDED = {"process/cpu_usage_percentage"}
"""Percentages that are no shares: 100 is one core."""

_LOG_OF_RATIO = math.log(1.02)
_SMALLEST = 1e-3
"""Metrics are rounded to three decimals; what is smaller is in the lowest bin."""

_LOWEST_BIN = -(10**6)


class Moment(NamedTuple):
    """One value, and when it was.

    Attributes:
        time_s: Seconds since the epoch.
        value: In the metric's unit.
    """

    time_s: float
    value: float


@dataclass
class Grid:
    """The time buckets of a run: at most 32, whose width doubles when they are full.

    Attributes:
        level: A bucket is 2 to the power of this many seconds wide.
        first: Number of the first bucket with a value: its start is `first * width_s`.
        last: Number of the last one.
    """

    level: int = 0
    first: int | None = None
    last: int = 0

    @property
    def width_s(self) -> float:
        """Width of a bucket."""
        return math.ldexp(1.0, self.level)

    @property
    def start_s(self) -> float:
        """When the first bucket begins, seconds since the epoch."""
        return (self.first or 0) * self.width_s

    def number(self, time_s: float) -> int:
        """Number of the bucket that a time is in, for which there is room from now on.

        It holds until this is called for another time.
        """
        number = math.floor(time_s / self.width_s)
        if self.first is None:
            self.first = self.last = number
        self.first, self.last = min(self.first, number), max(self.last, number)
        while self.last - self.first >= MAX_BUCKETS:
            self.widen()
            number >>= 1
        return number

    def widen(self) -> None:
        """Make each bucket twice as wide."""
        self.level += 1
        if self.first is not None:
            self.first, self.last = self.first >> 1, self.last >> 1

    def __len__(self) -> int:
        return 0 if self.first is None else self.last - self.first + 1


@dataclass(frozen=True)
class Statistic:
    """What is known of one metric over a run, or a part of it.

    Attributes:
        key: Metric key below `system/`, without a node's part.
        samples: Number of values.
        covered_s: Seconds that the values stand for: without gaps, and without the time before
            the first.
        mean: Weighted by time.
        minimum: Lowest value.
        maximum: Highest value.
        total: Increase over the run, of a metric that the catalog calls an increase; else None.
        first: The first value.
        last: The last value.
        grid_start_s: When the first bucket of the run's grid begins, seconds since the epoch.
        bucket_s: Width of each bucket.
        buckets: Mean of each bucket of the run's grid; None where there was no value.
        bucket_covered_s: Seconds that the values in each bucket stand for.
        bins: Seconds for each bin of values, by the bin's number.
    """

    key: str
    samples: int
    covered_s: float
    mean: float
    minimum: float
    maximum: float
    total: float | None
    first: Moment
    last: Moment
    grid_start_s: float
    bucket_s: float
    buckets: tuple[float | None, ...]
    bucket_covered_s: tuple[float, ...]
    bins: Mapping[int, float]

    @cached_property
    def p95(self) -> float:
        """What the values stay at or below for 95 % of the time; see `quantile`."""
        return self.quantile(0.95)

    @property
    def integral(self) -> float:
        """Mean times covered seconds: 100 for a metric that was 10 for 10 seconds."""
        return self.mean * self.covered_s

    def quantile(self, share: float) -> float:
        """What the values stay at or below for a share of the time.

        Exact to 0.5 for percentages, to 2 % for others.
        """
        wanted_s = share * sum(self.bins.values())
        seen_s = 0.0
        value_of = _bins_of(self.key).value
        value = self.last.value
        for number in sorted(self.bins):
            seen_s += self.bins[number]
            value = value_of(number)
            if seen_s >= wanted_s:
                break
        return min(max(value, self.minimum), self.maximum)

    def bucket_starts_s(self) -> Iterator[float]:
        """When each bucket begins, seconds since the epoch."""
        for number in range(len(self.buckets)):
            yield self.grid_start_s + number * self.bucket_s

    def points(self, since_s: float = -math.inf) -> list[Moment]:
        """Means of the buckets that begin at a time or later, each at its bucket's middle."""
        return [
            Moment(start_s + self.bucket_s / 2, mean)
            for start_s, mean in zip(self.bucket_starts_s(), self.buckets, strict=True)
            if mean is not None and start_s >= since_s
        ]

    def mean_since(self, since_s: float) -> float | None:
        """Mean over the buckets that begin at a time or later; None where there is none."""
        known = [
            (mean, covered_s)
            for start_s, mean, covered_s in zip(
                self.bucket_starts_s(), self.buckets, self.bucket_covered_s, strict=True
            )
            if mean is not None and start_s >= since_s
        ]
        covered_s = sum(each for _, each in known)
        return sum(mean * each for mean, each in known) / covered_s if covered_s else None


class _PercentBins:
    """Bins of equal width, for values that lie between 0 and 100."""

    @staticmethod
    def number(value: float) -> int:
        return round(value * _BINS_A_PERCENT) if value < 100 else 100 * _BINS_A_PERCENT  # noqa: PLR2004 - per cent

    @staticmethod
    def value(number: int) -> float:
        return number / _BINS_A_PERCENT


class _LogBins:
    """Bins whose width grows with the value, for all others."""

    @staticmethod
    def number(value: float) -> int:
        return round(math.log(value) / _LOG_OF_RATIO) if value > _SMALLEST else _LOWEST_BIN

    @staticmethod
    def value(number: int) -> float:
        return math.exp(number * _LOG_OF_RATIO) if number > _LOWEST_BIN else 0.0


def _bins_of(key: str) -> type[_PercentBins | _LogBins]:
    is_share = key.endswith("_percentage") and key not in _UNBOUNDED
    return _PercentBins if is_share else _LogBins


class Accumulator:
    """Takes the values of one metric, and makes its statistic.

    Args:
        key: Metric key below `system/`.
        grid: The run's, shared by all its metrics.
    """

    def __init__(self, key: str, grid: Grid) -> None:
        self.key = key
        self.samples = 0
        self._grid = grid
        self._weighted = 0.0
        self._covered_s = 0.0
        self._minimum = math.inf
        self._maximum = -math.inf
        self._is_total = _is_total(key)
        self._total = 0.0
        self._total_before = 0.0
        self._first: Moment | None = None
        self._last_s = -math.inf
        self._last = 0.0
        self._number_of = _bins_of(key).number
        self._bins: dict[int, float] = {}
        self._level = grid.level
        self._buckets: dict[int, list[float]] = {}

    @property
    def last_s(self) -> float:
        """When the last value was; minus infinity before the first."""
        return self._last_s

    def add(self, time_s: float, value: float, covered_s: float, bucket: int) -> None:
        """Take a value.

        Args:
            time_s: When, in seconds since the epoch; not before the one before.
            value: In the metric's unit; finite.
            covered_s: How many seconds before that time it stands for.
            bucket: Number of the grid's bucket that the time is in.
        """
        self.samples += 1
        if self._is_total:  # one that fell has begun anew, as in a resumed run
            self._total += value - self._total_before if value >= self._total_before else value
            self._total_before = value
        if self._first is None:
            self._first = Moment(time_s, value)
        self._last_s, self._last = time_s, value
        self._minimum = min(self._minimum, value)
        self._maximum = max(self._maximum, value)
        if covered_s <= 0:
            return
        weighted = value * covered_s
        self._weighted += weighted
        self._covered_s += covered_s
        bins, bin_number = self._bins, self._number_of(value)
        bins[bin_number] = bins.get(bin_number, 0.0) + covered_s
        self._add_to_bucket(bucket, weighted, covered_s)

    def begin_anew(self) -> None:
        """The run was resumed: an increase counts from 0 again with the next value."""
        self._total_before = 0.0

    def absorb(self, other: Statistic) -> None:
        """Take in what is known of the same metric in another part, or on another node."""
        self.samples += other.samples
        self._total += other.total or 0.0
        if self._first is None or other.first.time_s < self._first.time_s:
            self._first = other.first
        if other.last.time_s >= self._last_s:
            self._last_s, self._last = other.last
        self._minimum = min(self._minimum, other.minimum)
        self._maximum = max(self._maximum, other.maximum)
        self._weighted += other.integral
        self._covered_s += other.covered_s
        for number, covered_s in other.bins.items():
            self._bins[number] = self._bins.get(number, 0.0) + covered_s
        while self._grid.width_s < other.bucket_s:
            self._grid.widen()
        for start_s, mean, covered_s in zip(
            other.bucket_starts_s(), other.buckets, other.bucket_covered_s, strict=True
        ):
            if mean is not None:
                self._add_to_bucket(self._grid.number(start_s), mean * covered_s, covered_s)

    def statistic(self) -> Statistic | None:
        """What is known now; None without a value."""
        if self._first is None:
            return None
        self._fit()
        grid = self._grid
        numbers = range(grid.first or 0, (grid.first or 0) + len(grid))
        pairs = [self._buckets.get(number, (0.0, 0.0)) for number in numbers]
        return Statistic(
            key=self.key,
            samples=self.samples,
            covered_s=self._covered_s,
            mean=self._weighted / self._covered_s if self._covered_s else self._last,
            minimum=self._minimum,
            maximum=self._maximum,
            total=self._total if self._is_total else None,
            first=self._first,
            last=Moment(self._last_s, self._last),
            grid_start_s=grid.start_s,
            bucket_s=grid.width_s,
            buckets=tuple(weighted / s if s else None for weighted, s in pairs),
            bucket_covered_s=tuple(s for _, s in pairs),
            bins=dict(self._bins),
        )

    def _add_to_bucket(self, number: int, weighted: float, covered_s: float) -> None:
        if self._level != self._grid.level:
            self._fit()
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [weighted, covered_s]
        else:
            bucket[0] += weighted
            bucket[1] += covered_s

    def _fit(self) -> None:
        """Make the buckets as wide as the grid's are now."""
        doublings = self._grid.level - self._level
        if not doublings:
            return
        narrow, self._buckets, self._level = self._buckets, {}, self._grid.level
        for number, (weighted, covered_s) in narrow.items():
            self._add_to_bucket(number >> doublings, weighted, covered_s)


class Snapshot(Mapping[str, Statistic]):
    """The statistics of metrics that share a grid, by key: of hundreds, those that are asked for.

    Each is as of when it is first asked for, so this is for use before the next value is taken.

    Args:
        accumulators: By key.
    """

    def __init__(self, accumulators: Mapping[str, Accumulator]) -> None:
        self._accumulators = accumulators
        self._made: dict[str, Statistic] = {}

    def __getitem__(self, key: str) -> Statistic:
        made = self._made.get(key)
        if made is None:
            made = self._accumulators[key].statistic()
            if made is None:
                raise KeyError(key)
            self._made[key] = made
        return made

    def __iter__(self) -> Iterator[str]:
        return (key for key, each in self._accumulators.items() if each.samples)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in self._accumulators and self._accumulators[str(key)].samples > 0


def merged(statistics: Iterable[Statistic]) -> dict[str, Statistic]:
    """One statistic for each key, of several parts of a run or several nodes, on one grid."""
    grid = Grid()
    accumulators: dict[str, Accumulator] = {}
    for each in statistics:
        accumulator = accumulators.get(each.key)
        if accumulator is None:
            accumulator = accumulators[each.key] = Accumulator(each.key, grid)
        accumulator.absorb(each)
    return frozen(accumulators)


def frozen(accumulators: Mapping[str, Accumulator]) -> dict[str, Statistic]:
    """The statistics of metrics that share a grid, by key."""
    made = ((key, each.statistic()) for key, each in accumulators.items())
    return {key: each for key, each in made if each is not None}


def _is_total(key: str) -> bool:
    try:
        return metric_of(key).aggregate is Aggregate.TOTAL
    except KeyError:  # of another version
        return False
