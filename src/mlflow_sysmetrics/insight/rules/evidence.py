"""What rules ask of a run, and when they may not answer."""

from __future__ import annotations

from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.insight.finding import NotJudged, TooShort
from mlflow_sysmetrics.insight.thresholds import LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.insight.run import RunView
    from mlflow_sysmetrics.insight.statistics import Moment, Statistic

TREE_CPU = "process/cpu_utilization_percentage"
TREE_CORES = "process/cpu_usage_percentage"

_NOTEBOOKS = ("ipykernel_launcher.py", "colab_kernel_launcher.py")

_CLOSING_SHARE = 0.02
_QUARTERS = 4
_WINDOWS = 6
_MIN_POINTS = 6
_ENOUGH_POINTS = 20


def logged(run: RunView, key: str) -> Statistic:
    """The statistic of a metric.

    Raises:
        NotJudged: It is not logged.
    """
    statistic = run.get(key)
    if statistic is None:
        raise NotJudged(f"system/{key} is not known")
    return statistic


def check_long_enough(run: RunView) -> None:
    """See whether a run is long enough for means and trends.

    Raises:
        NotJudged: It is too short.
    """
    if run.samples < LIMITS.min_samples or run.duration_s < LIMITS.min_duration * 60:
        raise TooShort(
            f"it takes {LIMITS.min_samples:g} samples and {LIMITS.min_duration:g} minutes"
        )


def check_not_interactive(run: RunView) -> None:
    """See whether a person is at work: then what is idle may wait for them.

    Raises:
        NotJudged: It is a notebook.
    """
    source = run.facts.get("mlflow.source.name", "")
    if source.endswith(_NOTEBOOKS) or run.facts.get("mlflow.source.type") == "NOTEBOOK":
        raise NotJudged("a notebook: what is idle may wait for a person")


def cpus_of(run: RunView) -> float:
    """CPUs that the tree may use.

    Raises:
        NotJudged: That is not known.
    """
    cores, share = logged(run, TREE_CORES), logged(run, TREE_CPU)
    if cores.mean > 0 and share.mean > 0:
        return round(cores.mean / share.mean, 1)
    return _number(run, "sys.cpu_limit") or _number(run, "sys.cpu_cores") or 1.0


def has_cpu_limit(run: RunView) -> bool:
    """Whether a cgroup, or a scheduler, set the number of CPUs."""
    return "sys.cpu_limit" in run.facts


def tree_memory(run: RunView) -> Statistic:
    """Memory of the tree in which shared pages count once; RSS of one process is that, too.

    Raises:
        NotJudged: It is not known.
    """
    found = run.get("process/memory_pss_megabytes") or run.get("process/memory_uss_megabytes")
    samples = found.samples if found is not None else 0
    processes = run.get("process/num_processes")
    if samples < _ENOUGH_POINTS and processes is not None and processes.maximum <= 1:
        return logged(run, "process/memory_rss_megabytes")
    if found is None or samples < _MIN_POINTS:
        raise NotJudged("USS and PSS were not read, or too seldom")
    return found


def memory_limit_mb(run: RunView) -> float | None:
    """Limit of the container, else the host's memory; None where neither is known."""
    return container_limit_mb(run) or _whole_mb(
        run, "system_memory_usage_megabytes", "system_memory_usage_percentage", "sys.memory_gb"
    )


def container_limit_mb(run: RunView) -> float | None:
    """Limit of the container; None without one."""
    return _whole_mb(
        run,
        "container/memory_usage_megabytes",
        "container/memory_usage_percentage",
        "sys.memory_limit_gb",
    )


def _whole_mb(run: RunView, used_key: str, share_key: str, tag: str) -> float | None:
    used, share = run.get(used_key), run.get(share_key)
    if used is not None and share is not None and share.mean > 0:
        return used.mean / share.mean * 100
    gigabytes = _number(run, tag)
    return None if gigabytes is None else gigabytes * 1000


def _number(run: RunView, tag: str) -> float | None:
    try:
        return float(run.facts.get(tag, ""))
    except ValueError:
        return None


def rate(statistic: Statistic | None) -> float:
    """Mean increase a second of what only increases; 0 where it is not known."""
    if statistic is None or statistic.total is None or statistic.covered_s <= 0:
        return 0.0
    return statistic.total / statistic.covered_s


class Growth(NamedTuple):
    """A metric that grew as steadily as a straight line.

    Attributes:
        start: Where the line begins.
        end: Where it ends.
        start_s: When it begins, seconds since the epoch.
        end_s: When it ends.
    """

    start: float
    end: float
    start_s: float
    end_s: float

    @property
    def amount(self) -> float:
        """By how much it grew."""
        return self.end - self.start

    @property
    def per_s(self) -> float:
        """Growth a second."""
        return self.amount / (self.end_s - self.start_s)


def steady_growth(run: RunView, statistic: Statistic) -> Growth | None:
    """Growth over the last two thirds of a run; None where it is no straight line upwards.

    The end is left out: as a run closes, much is freed.

    Raises:
        NotJudged: There are too few values.
    """
    end_s = run.ended_s - (_CLOSING_SHARE * run.duration_s if run.has_ended else 0.0)
    begin_s = run.started_s + run.duration_s / 3
    points = [
        point
        for point in statistic.points(begin_s)
        if point.time_s + statistic.bucket_s / 2 <= end_s
    ]
    if len(points) < _MIN_POINTS:
        raise NotJudged(f"system/{statistic.key} has too few values")
    quarters = _means(points, _QUARTERS)
    if quarters is None:
        raise NotJudged(f"system/{statistic.key} has gaps")
    if any(after <= before for before, after in pairwise(quarters)):
        return None
    slope, height, fit = line_through(points)
    half = len(points) // 2
    (first, _, _), (second, _, _) = line_through(points[:half]), line_through(points[half:])
    if fit < LIMITS.leak_fit or second < LIMITS.leak_steadiness * first:
        return None
    start_s, stop_s = points[0].time_s, points[-1].time_s
    middle_s = mean(point.time_s for point in points)
    return Growth(
        height + slope * (start_s - middle_s), height + slope * (stop_s - middle_s), start_s, stop_s
    )


def recent_growth(run: RunView, statistic: Statistic) -> Growth | None:
    """Growth over the last half an hour, or longer, that showed in 4 of the last 5 windows.

    None where there was none, or the run is shorter.
    """
    window_s = max(LIMITS.forecast_trend * 60 / _WINDOWS, statistic.bucket_s)
    begin_s = run.ended_s - window_s * _WINDOWS
    if begin_s < run.started_s:
        return None
    points = statistic.points(begin_s)
    means = [
        mean(found)
        for number in range(_WINDOWS)
        if (
            found := [
                point.value
                for point in points
                if number <= (point.time_s - begin_s) / window_s < number + 1
            ]
        )
    ]
    rising = sum(after > before for before, after in pairwise(means))
    if len(means) < _WINDOWS - 1 or rising < _WINDOWS - 2:
        return None
    slope, height, _ = line_through(points)
    span_s = points[-1].time_s - points[0].time_s
    if slope <= 0:
        return None
    return Growth(
        height - slope * span_s / 2,
        height + slope * span_s / 2,
        points[0].time_s,
        points[-1].time_s,
    )


def line_through(points: Sequence[Moment]) -> tuple[float, float, float]:
    """The straight line with the least squares: slope a second, value in the middle, R²."""
    times, values = [point.time_s for point in points], [point.value for point in points]
    middle_s, height = mean(times), mean(values)
    spread = sum((time_s - middle_s) ** 2 for time_s in times)
    scatter = sum((value - height) ** 2 for value in values)
    if not spread or not scatter:
        return 0.0, height, 0.0
    slope = (
        sum(
            (time_s - middle_s) * (value - height)
            for time_s, value in zip(times, values, strict=True)
        )
        / spread
    )
    return slope, height, slope**2 * spread / scatter


def _means(points: Sequence[Moment], count: int) -> list[float] | None:
    """Means over equal parts of the time; None where one has no value."""
    begin_s, span_s = points[0].time_s, points[-1].time_s - points[0].time_s
    parts: list[list[float]] = [[] for _ in range(count)]
    for time_s, value in points:
        parts[min(count - 1, int((time_s - begin_s) / span_s * count))].append(value)
    return [mean(part) for part in parts] if all(parts) else None
