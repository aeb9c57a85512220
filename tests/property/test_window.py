"""Whatever the collectors hand over, what is logged stays between what was read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_sysmetrics.catalog import METRICS, Aggregate, metric_of
from mlflow_sysmetrics.sampling.window import Readings, Window

GAUGE = "system_memory_usage_megabytes"
ROUNDING = 0.0005
TOLERANCE = 1e-9

readings = st.sampled_from(
    sorted({metric.reading.format(index=3, instance=1) for metric in METRICS})
)
any_sample = st.tuples(
    st.floats(0, 100, allow_nan=False),
    st.dictionaries(readings, st.floats() | st.integers(0, 2**64), max_size=6),
)
gauge_values = st.lists(st.floats(0, 1e9), min_size=1, max_size=20)
rises = st.lists(st.tuples(st.floats(0.2, 100), st.integers(0, 10**9)), min_size=1, max_size=20)


@given(st.lists(any_sample, max_size=12), st.integers(1, 4))
def test_what_is_logged_is_finite_and_in_the_catalog_and_rates_and_totals_never_negative(
    samples: list[tuple[float, dict[str, float]]], samples_a_window: int
) -> None:
    window = Window()
    time_s = 0.0
    for pause_s, values in samples:
        time_s += pause_s
        window.add([Readings(time_s, values)])
        if window.samples < samples_a_window:
            continue
        for key, value in window.close().items():
            assert math.isfinite(value)
            if metric_of(key).aggregate in (Aggregate.RATE, Aggregate.TOTAL):
                assert value >= 0


@given(gauge_values)
def test_a_mean_lies_between_the_least_and_the_greatest(values: list[float]) -> None:
    window = _opened(GAUGE)
    for time_s, value in enumerate(values):
        window.add([Readings(time_s, {GAUGE: value})])

    mean = window.close()[GAUGE]

    slack = ROUNDING + TOLERANCE * max(values)
    assert min(values) - slack <= mean <= max(values) + slack


@given(rises, st.data())
def test_the_rates_of_all_windows_add_up_to_the_total(
    rises: list[tuple[float, int]], data: st.DataObject
) -> None:
    window = _opened("network_external_receive_bytes")
    time_s = closed_s = total = 0.0
    transferred_mb = 0.0
    slack = 0.0
    for number, (pause_s, rise) in enumerate(rises):
        time_s += pause_s
        total += rise
        window.add([Readings(time_s, {"network_external_receive_bytes": total})])
        is_last = number == len(rises) - 1
        if is_last or data.draw(st.booleans(), label="closes here"):
            rate = window.close()["network/receive_megabytes_per_second"]
            transferred_mb += rate * (time_s - closed_s)
            slack += ROUNDING * (time_s - closed_s)
            closed_s = time_s

    assert transferred_mb == pytest.approx(total / 1e6, rel=TOLERANCE, abs=slack + TOLERANCE)


def _opened(reading: str) -> Window:
    window = Window()
    window.add([Readings(0.0, {reading: 0.0})])
    return window
