"""The summary of a run: a few values that say most, from its statistics and findings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog import STATISTICS, SUMMARY, summary_name
from mlflow_sysmetrics.insight.part import Part
from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.sampling.sink import SUMMARY_PREFIX
from mlflow_sysmetrics.settings import matches_any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_sysmetrics.catalog import SummaryValue
    from mlflow_sysmetrics.insight.finding import Finding, Judgement
    from mlflow_sysmetrics.insight.run import RunView
    from mlflow_sysmetrics.insight.statistics import Statistic

MIN_SAMPLES = 3
"""A run with fewer samples has no summary."""

MAX_VALUES = 25

_DECIMALS = 3
_P95 = "p95"

_USUAL: dict[str, set[str]] = {}
"""Statistics that the usual summary has, by the key of the metric."""

for _each in SUMMARY:
    _USUAL.setdefault(_each.metric, set()).add(_each.statistic)


def summarize(
    part: Part,
    judgement: Judgement | None = None,
    globs: tuple[str, ...] = (),
) -> dict[str, float]:
    """The summary, by key below `system/`; empty for a run of fewer than 3 samples.

    Args:
        part: What is known of all parts of the run together.
        judgement: What the rules say of it; None where they were not asked.
        globs: Which values; empty for the usual ones.
    """
    if part.samples < MIN_SAMPLES:
        return {}
    values = dict(_usual(part, judgement))
    if globs:
        candidates = {**values, **dict(_statistics(part))}
        values = {name: value for name, value in candidates.items() if matches_any(name, globs)}
    if len(values) > MAX_VALUES:
        warn_once(
            f"MLFLOW_SYSMETRICS_SUMMARY chooses {len(values)} values; a run gets the first "
            f"{MAX_VALUES} of them",
            subject="too many summary values",
        )
    chosen = list(values.items())[:MAX_VALUES]
    return {SUMMARY_PREFIX + name: round(value, _DECIMALS) for name, value in chosen}


def part_of(run: RunView, judgement: Judgement | None, globs: tuple[str, ...] = ()) -> Part:
    """What is kept of a run that has been judged: as much as its summary needs.

    Args:
        run: The run.
        judgement: What the rules say of it; None where they were not asked.
        globs: As for `summarize`.
    """
    hours = _gpu_hours(run)
    is_judged = judgement is not None and any(map(_is_about_gpus, judgement.judged))
    needed = {key: found for key in run.statistics if (found := _needed(key, globs))}
    kept = {key: run.statistics[key] for key in needed}
    return Part(
        {
            key: each if _P95 in needed[key] else replace(each, bins={})
            for key, each in kept.items()
        },
        run.started_s,
        run.duration_s,
        run.samples,
        hours,
        gpu_hours_wasted(run, judgement.findings) if judgement and is_judged and hours else None,
        _fullest_gpu(run),
    )


def gpu_hours_wasted(run: RunView, findings: Iterable[Finding]) -> float:
    """Hours of GPUs that findings call wasted; those of one GPU count once."""
    by_gpu: dict[int, float] = {}
    for waste in (each.waste for each in findings):
        if waste is None or not waste.gpu_hours:
            continue
        gpus = waste.gpus or run.gpus.indices
        for gpu in gpus:
            by_gpu[gpu] = max(by_gpu.get(gpu, 0.0), waste.gpu_hours / len(gpus))
    return sum(min(hours, run.duration_s / 3600) for hours in by_gpu.values())


def _needed(key: str, globs: tuple[str, ...]) -> set[str]:
    """Which statistics of a metric some value of the summary may be made of."""
    usual = _USUAL.get(key, set())
    chosen = (each for each in STATISTICS if matches_any(summary_name(key, each), globs))
    return usual.union(chosen) if globs else usual


def _gpu_hours(run: RunView) -> float | None:
    """None where it is not known which GPUs are the run's, or another run answers for them."""
    if not (run.gpus.are_known and run.gpus.indices and run.is_outermost):
        return None
    return len(run.gpus.indices) * run.duration_s / 3600


def _fullest_gpu(run: RunView) -> float | None:
    keys = (f"gpu_{index}_memory_usage_percentage" for index in run.gpus.indices)
    shares = (run.statistics[key].maximum for key in keys if key in run.statistics)
    return max(shares, default=None)


def _is_about_gpus(rule: str) -> bool:
    return rule.startswith("gpu-")


def _usual(part: Part, judgement: Judgement | None) -> Iterable[tuple[str, float]]:
    of_run = {
        "duration_seconds": part.duration_s,
        "samples": part.samples,
        "gpu_memory_usage_percentage_max": part.gpu_memory_percentage,
        "gpu_hours": part.gpu_hours,
        "gpu_hours_wasted": part.gpu_hours_wasted,
    }
    if judgement is not None and judgement.judged and _is_telling(judgement):
        of_run["findings"] = len(judgement.warnings)
    for each in SUMMARY:
        if not any(key in part.statistics for key in each.unless):
            value = _of_metric(each, part) if each.metric else of_run.get(each.name)
            if value is not None:
                yield each.name, value


def _is_telling(judgement: Judgement) -> bool:
    """Whether the number of findings says something: 0 of a short run would read as all well."""
    return bool(judgement.warnings) or not judgement.too_short


def _of_metric(each: SummaryValue, part: Part) -> float | None:
    statistic = part.statistics.get(each.metric)
    return _of(statistic, each.statistic) if statistic is not None else None


def _statistics(part: Part) -> Iterable[tuple[str, float]]:
    """Every statistic of every metric."""
    for key, statistic in part.statistics.items():
        for name in STATISTICS:
            value = _of(statistic, name)
            if value is not None:
                yield summary_name(key, name), value


def _of(statistic: Statistic, name: str) -> float | None:
    made: Mapping[str, float | None] = {
        "mean": statistic.mean,
        "max": statistic.maximum,
        "total": statistic.total,
        "cpu_seconds": statistic.integral / 100,
    }
    return statistic.p95 if name == _P95 else made[name]
