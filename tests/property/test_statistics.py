"""Statistics in constant memory say what a plain computation over all samples says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_sysmetrics.insight.statistics import (
    MAX_BUCKETS,
    Accumulator,
    Grid,
    Statistic,
    frozen,
    merged,
)

SHARE = "gpu/utilization_percentage"
GAUGE = "process/memory_pss_megabytes"
TOTAL = "process/io_read_megabytes"
START_S = 1_800_000_000.0

spans = st.one_of(st.floats(0.01, 100.0), st.floats(100.0, 1e5))
shares = st.lists(st.tuples(spans, st.floats(0.0, 100.0)), min_size=1, max_size=80)
gauges = st.lists(st.tuples(spans, st.floats(0.0, 1e7)), min_size=1, max_size=80)
several = st.lists(shares, min_size=1, max_size=4)


def statistic_of(
    key: str, history: list[tuple[float, float]], start_s: float = START_S
) -> Statistic:
    grid = Grid()
    accumulator = Accumulator(key, grid)
    time_s = start_s
    for span_s, value in history:
        time_s += span_s
        accumulator.add(time_s, value, span_s, grid.number(time_s))
    return frozen({key: accumulator})[key]


def plain_quantile(history: list[tuple[float, float]], share: float) -> float:
    wanted_s = share * math.fsum(span_s for span_s, _ in history)
    seen_s = 0.0
    for span_s, value in sorted(history, key=lambda each: each[1]):
        seen_s += span_s
        if seen_s >= wanted_s * (1 - 1e-12):
            return value
    return max(value for _, value in history)


@given(history=shares)
def test_mean_extremes_and_ends_are_those_of_all_samples(
    history: list[tuple[float, float]],
) -> None:
    found = statistic_of(SHARE, history)

    covered_s = math.fsum(span_s for span_s, _ in history)
    values = [value for _, value in history]
    assert found.samples == len(history)
    assert found.covered_s == pytest.approx(covered_s)
    assert found.mean == pytest.approx(
        math.fsum(span_s * value for span_s, value in history) / covered_s
    )
    assert (found.minimum, found.maximum) == (min(values), max(values))
    assert (found.first.value, found.last.value) == (values[0], values[-1])


@given(history=shares, share=st.floats(0.01, 1.0))
def test_a_percentile_of_a_percentage_is_right_to_half_a_percent(
    history: list[tuple[float, float]], share: float
) -> None:
    found = statistic_of(SHARE, history).quantile(share)

    near = [plain_quantile(history, share + error) for error in (-1e-9, 0.0, 1e-9)]
    assert min(near) - 0.5 <= found <= max(near) + 0.5


@given(history=gauges)
def test_a_percentile_of_other_metrics_is_right_to_two_percent(
    history: list[tuple[float, float]],
) -> None:
    found = statistic_of(GAUGE, history).p95

    near = [plain_quantile(history, 0.95 + error) for error in (-1e-9, 0.0, 1e-9)]
    assert min(near) * 0.98 - 1e-3 <= found <= max(near) * 1.02 + 1e-3


@given(history=gauges)
def test_the_buckets_are_few_and_together_hold_every_sample(
    history: list[tuple[float, float]],
) -> None:
    found = statistic_of(GAUGE, history)

    assert len(found.buckets) <= MAX_BUCKETS
    held = [
        (mean, covered_s)
        for mean, covered_s in zip(found.buckets, found.bucket_covered_s, strict=True)
        if mean is not None
    ]
    assert math.fsum(covered_s for _, covered_s in held) == pytest.approx(found.covered_s)
    assert math.fsum(mean * covered_s for mean, covered_s in held) == pytest.approx(found.integral)


@given(history=gauges)
def test_each_bucket_is_the_mean_of_the_samples_that_were_taken_in_it(
    history: list[tuple[float, float]],
) -> None:
    found = statistic_of(GAUGE, history)

    plain: dict[int, list[tuple[float, float]]] = {}
    time_s = START_S
    for span_s, value in history:
        time_s += span_s
        number = math.floor((time_s - found.grid_start_s) / found.bucket_s)
        plain.setdefault(number, []).append((span_s, value))
    for number, mean in enumerate(found.buckets):
        inside = plain.get(number)
        if inside is None:
            assert mean is None
        else:
            covered_s = math.fsum(span_s for span_s, _ in inside)
            assert mean == pytest.approx(
                math.fsum(span_s * value for span_s, value in inside) / covered_s
            )


@given(parts=several)
def test_parts_of_a_run_merge_to_what_the_whole_gives(
    parts: list[list[tuple[float, float]]],
) -> None:
    whole = statistic_of(SHARE, [each for part in parts for each in part])

    start_s = START_S
    statistics = []
    for part in parts:
        statistics.append(statistic_of(SHARE, part, start_s))
        for span_s, _ in part:  # as `statistic_of` adds them up
            start_s += span_s
    together = merged(statistics)[SHARE]

    assert together.samples == whole.samples
    assert together.mean == pytest.approx(whole.mean)
    assert (together.first, together.last) == (whole.first, whole.last)
    assert (together.minimum, together.maximum) == (whole.minimum, whole.maximum)
    assert together.bins == pytest.approx(whole.bins)
    assert (together.grid_start_s, together.bucket_s) == (whole.grid_start_s, whole.bucket_s)
    assert together.bucket_covered_s == pytest.approx(whole.bucket_covered_s)


@given(
    parts=st.lists(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=9), min_size=1, max_size=4)
)
def test_a_total_that_begins_anew_in_a_resumed_run_adds_up(parts: list[list[float]]) -> None:
    rising = [sorted(part) for part in parts]
    merge = merged(statistic_of(TOTAL, [(1.0, value) for value in part]) for part in rising)

    assert merge[TOTAL].total == pytest.approx(math.fsum(part[-1] for part in rising))
    assert statistic_of(SHARE, [(1.0, 50.0)]).total is None
