"""What a store has of a run's samples, looked up in its database, past every server."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy

from integration.launcher import Point, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from integration.commanded import Closed

_SAMPLED = "system/system_memory_usage_percentage"  # every sample has it, MLflow's too

_RARELY_READ = (
    "memory_uss_megabytes",
    "memory_pss_megabytes",
    "memory_swap_megabytes",
)  # a sample need not have them

_LEVELS = {  # what every sample has; rates are left out where two samples are too close
    "system/system_memory_usage_percentage",
    "system/disk_usage_percentage",
    "system/process/memory_rss_megabytes",
    "system/process/num_processes",
}

_POINTS = sqlalchemy.text(
    "SELECT key, step, timestamp FROM metrics WHERE run_uuid = :run_id AND key LIKE 'system/%'"
)
_SERIES = sqlalchemy.text(
    "SELECT key, step, timestamp, value FROM metrics"
    " WHERE run_uuid = :run_id AND key LIKE 'system/%' ORDER BY key, step, timestamp"
)
_TAGS = sqlalchemy.text("SELECT key, value FROM tags WHERE run_uuid = :run_id")
_RUNS = sqlalchemy.text(
    "SELECT run_uuid, runs.name, status, start_time, end_time FROM runs"
    " JOIN experiments ON runs.experiment_id = experiments.experiment_id"
    " WHERE experiments.name = :experiment ORDER BY start_time"
)


class Sample(NamedTuple):
    """One sample: its number in the run, its time, and the keys that it has a value of."""

    step: int
    time_ms: int
    keys: frozenset[str]


def stored_samples(store_uri: str, run_id: str) -> list[Sample]:
    """The samples of a run in the order of their times; one stored twice is there twice.

    SQL stores drop a point of the same key, step, time and value by themselves.
    """
    keys = defaultdict(set)
    for key, step, time_ms in _rows(store_uri, _POINTS, run_id=run_id):
        keys[time_ms, step].add(key)
    return [
        Sample(step, time_ms, frozenset(found))
        for (time_ms, step), found in sorted(keys.items())
        if _SAMPLED in found
    ]


def assert_complete(samples: Sequence[Sample], closed: Closed | None = None) -> None:
    """Each sample is there once, whole and in order; up to the end of the run, if it is closed."""
    assert [sample.step for sample in samples] == list(range(len(samples)))
    assert len(samples) >= 2
    assert all(sample.keys >= _LEVELS for sample in samples)
    times_ms = [sample.time_ms for sample in samples]
    assert times_ms == sorted(set(times_ms))
    if closed is not None:
        assert times_ms[-1] >= closed.time_s * 1000 - 1


def usual_keys(samples: Sequence[Sample]) -> set[str]:
    """The keys that each of a run's samples should have."""
    counts = Counter(key for sample in samples for key in sample.keys)
    return {
        key
        for key, count in counts.items()
        if count > len(samples) / 2 and not key.endswith(_RARELY_READ)
    }


def stored_tags(store_uri: str, run_id: str) -> dict[str, str]:
    """The tags of a run."""
    return dict(_rows(store_uri, _TAGS, run_id=run_id))


def stored_runs(store_uri: str, experiment: str) -> list[Run]:
    """The runs of an experiment, the oldest first, with all that they have."""
    runs = []
    for run_id, name, status, began_ms, ended_ms in _rows(store_uri, _RUNS, experiment=experiment):
        series = defaultdict(list)
        for key, *point in _rows(store_uri, _SERIES, run_id=run_id):
            series[key].append(Point(*point))
        lasted_s = ((ended_ms or time.time() * 1000) - began_ms) / 1000
        tags = stored_tags(store_uri, run_id)
        runs.append(Run(run_id, name, status, lasted_s, tags, dict(series)))
    return runs


def _rows(store_uri: str, query: sqlalchemy.TextClause, **values: str) -> list[Any]:
    engine = sqlalchemy.create_engine(store_uri)
    try:
        with engine.connect() as connection:
            return [*connection.execute(query, values)]
    finally:
        engine.dispose()
