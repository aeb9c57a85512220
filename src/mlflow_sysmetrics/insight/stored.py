"""Reads the statistics of a run from what a tracking store has of it, whoever logged that."""

from __future__ import annotations

import math
import re
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.catalog import PREFIX, Aggregate, metric_of
from mlflow_sysmetrics.insight.gpus import gpus_of
from mlflow_sysmetrics.insight.live import covered_s
from mlflow_sysmetrics.insight.run import RunView
from mlflow_sysmetrics.insight.statistics import Accumulator, Grid, frozen
from mlflow_sysmetrics.sampling.sink import SUMMARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlflow.entities import Run

    from mlflow_sysmetrics.insight.statistics import Statistic

_UTILIZATION = "gpu/utilization_percentage"
_POWER = "gpu/power_usage_watts"

_USUAL_INTERVAL_S = 10.0

_LATE = 2
"""Intervals after which a first point is not that of a run that was sampled from its start."""


@dataclass
class History:
    """What a store has of one metric, in the order of time.

    Attributes:
        times_s: Seconds since the epoch, rising.
        values: As many, in the metric's unit.
    """

    times_s: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))


def system_keys(run: Run) -> dict[str | None, dict[str, str]]:
    """Full key by the key in the catalog of all system metrics of a run, for each node.

    The node is None for keys without a node's part.
    """
    found: dict[str | None, dict[str, str]] = {}
    for full in run.data.metrics:
        below = full.removeprefix(PREFIX)
        if below == full or below.startswith(SUMMARY_PREFIX):
            continue
        node, _, rest = below.partition("/")
        if _is_known(below):
            found.setdefault(None, {})[below] = full
        elif _is_known(rest):
            found.setdefault(node, {})[rest] = full
    return found


def read_histories(
    client: Any,  # noqa: ANN401 - MLflow has no types
    run: Run,
    without: frozenset[str | None] = frozenset(),
) -> dict[str | None, dict[str, History]]:
    """All system metrics of a run, by key in the catalog, for each node; see `system_keys`.

    Args:
        client: MLflow's client of the store.
        run: As the store has it.
        without: Nodes to leave out.

    Raises:
        Exception: What the client raises.
    """
    return {
        node: {key: read_history(client, run.info.run_id, full) for key, full in keys.items()}
        for node, keys in sorted(system_keys(run).items(), key=lambda each: each[0] or "")
        if node not in without
    }


def read_views(
    client: Any,  # noqa: ANN401 - as above
    run: Run,
    without: frozenset[str | None] = frozenset(),
) -> list[RunView]:
    """What each node of a run did; empty without system metrics.

    Args:
        client: MLflow's client of the store.
        run: As the store has it.
        without: Nodes to leave out.

    Raises:
        Exception: What the client raises.
    """
    return views_of(run, read_histories(client, run, without))


def views_of(run: Run, histories: Mapping[str | None, Mapping[str, History]]) -> list[RunView]:
    """What rules and the summary see of a run, for each node.

    Args:
        run: As the store has it.
        histories: As `read_histories` gives them.
    """
    started_s = run.info.start_time / 1000 if run.info.start_time else None
    tags = dict(run.data.tags)
    return [view_of(of_node, started_s, tags, node) for node, of_node in histories.items()]


def read_history(client: Any, run_id: str, key: str) -> History:  # noqa: ANN401 - as above
    """One metric's history; the client asks for it page by page."""
    points = client.get_metric_history(run_id, key)
    by_time = {each.timestamp: each.value for each in points if math.isfinite(each.value)}
    history = History()
    for timestamp_ms in sorted(by_time):  # what is stored twice counts once
        history.times_s.append(timestamp_ms / 1000)
        history.values.append(by_time[timestamp_ms])
    return history


def view_of(
    histories: Mapping[str, History],
    started_s: float | None,
    facts: Mapping[str, str],
    node: str | None = None,
) -> RunView:
    """What rules and the summary see of stored histories.

    Args:
        histories: By metric key, without a node's part.
        started_s: When the run began, seconds since the epoch; None where that is not known.
        facts: The run's tags.
        node: Name of the node that they are of.
    """
    is_mlflows_own = not any("/" in key for key in histories)
    histories = {**histories, **_gpu_totals(histories)}
    times_s = sorted({time_s for each in histories.values() for time_s in each.times_s})
    spans_s = [later - earlier for earlier, later in pairwise(times_s)]
    interval_s = median(spans_s) if spans_s else _USUAL_INTERVAL_S
    opened_s = _opened_s(times_s, started_s, interval_s)
    statistics = _statistics(histories, opened_s, interval_s)
    first_s = times_s[0] - opened_s if times_s else 0.0
    return RunView(
        statistics=statistics,
        started_s=opened_s,
        duration_s=first_s + sum(covered_s(span_s, interval_s) for span_s in spans_s),
        samples=len(times_s),
        largest_gap_s=max(spans_s, default=0.0),
        interval_s=interval_s,
        facts=facts,
        gpus=gpus_of(statistics, facts),
        node=node,
        is_mlflows_own=is_mlflows_own,
    )


def _statistics(
    histories: Mapping[str, History], opened_s: float, interval_s: float
) -> dict[str, Statistic]:
    grid = Grid()
    resumed_s = _resumed_s(histories)
    accumulators = {}
    for key, history in histories.items():
        accumulator = accumulators[key] = Accumulator(key, grid)
        before_s = opened_s
        for time_s, value in zip(history.times_s, history.values, strict=True):
            span_s = covered_s(time_s - before_s, interval_s)
            if time_s in resumed_s:
                accumulator.begin_anew()
                span_s = min(span_s, interval_s)
            accumulator.add(time_s, value, span_s, grid.number(time_s))
            before_s = time_s
    return frozen(accumulators)


def _opened_s(times_s: Sequence[float], started_s: float | None, interval_s: float) -> float:
    """When sampling began: as the run did, or an interval before the first point."""
    if not times_s:
        return started_s or 0.0
    if started_s is not None and 0 <= times_s[0] - started_s <= _LATE * interval_s:
        return started_s
    return times_s[0] - interval_s


def _resumed_s(histories: Mapping[str, History]) -> set[float]:
    """When the run was resumed: the increases since it was opened then begin at 0 again."""
    return {
        time_s
        for key, history in histories.items()
        if metric_of(key).aggregate is Aggregate.TOTAL
        for (before, value), time_s in zip(
            pairwise(history.values), history.times_s[1:], strict=True
        )
        if value < before
    }


def _gpu_totals(histories: Mapping[str, History]) -> dict[str, History]:
    """Utilisation and power of all GPUs together, of runs that have only those of each."""
    totals = {}
    for total, each, combine in (
        (_UTILIZATION, "utilization_percentage", fmean),
        (_POWER, "power_usage_watts", sum),
    ):
        found = [
            history for key, history in histories.items() if re.fullmatch(f"gpu_[0-9]+_{each}", key)
        ]
        if found and total not in histories:
            totals[total] = _combined(found, combine)
    return totals


def _combined(histories: Sequence[History], combine: Callable[[Iterable[float]], float]) -> History:
    """One value for each time at which all of them have one."""
    by_time = [dict(zip(each.times_s, each.values, strict=True)) for each in histories]
    combined = History()
    for time_s in sorted(set.intersection(*(set(each) for each in by_time))):
        combined.times_s.append(time_s)
        combined.values.append(combine([each[time_s] for each in by_time]))
    return combined


def _is_known(key: str) -> bool:
    try:
        metric_of(key)
    except KeyError:
        return False
    return True
