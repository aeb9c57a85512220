"""Statistics of a run that goes on, from the readings of its collectors."""

from __future__ import annotations

import pytest

from mlflow_sysmetrics.insight.live import LiveStatistics
from mlflow_sysmetrics.sampling.window import Readings

EPOCH_S = 1_800_000_000.0
GAUGE = "system_memory_usage_megabytes"


def statistics_of(
    *samples: tuple[float, dict[str, float]], interval_s: float = 10.0
) -> LiveStatistics:
    live = LiveStatistics(0.0, EPOCH_S, interval_s)
    for time_s, values in samples:
        live.add([Readings(time_s, values)])
    return live


def test_a_gauges_mean_counts_each_value_for_the_time_since_the_one_before() -> None:
    live = statistics_of((0, {GAUGE: 900.0}), (10, {GAUGE: 100.0}), (40, {GAUGE: 200.0}))

    found = live.statistics()[GAUGE]
    assert found.mean == pytest.approx((10 * 100 + 30 * 200) / 40)
    assert (found.maximum, found.covered_s) == (900.0, 40.0)


def test_a_value_after_a_gap_counts_for_an_interval_and_not_for_the_gap() -> None:
    live = statistics_of((0, {GAUGE: 100.0}), (10, {GAUGE: 100.0}), (10_000, {GAUGE: 300.0}))

    assert live.statistics()[GAUGE].mean == pytest.approx(200.0)
    assert live.largest_gap_s == 9990


def test_a_rate_is_that_between_two_samples_and_a_total_that_of_the_run() -> None:
    live = statistics_of(
        (0, {"process/cpu_seconds": 50.0, "process/io_read_bytes": 7e6}),
        (10, {"process/cpu_seconds": 60.0, "process/io_read_bytes": 9e6}),
        (20, {"process/cpu_seconds": 90.0, "process/io_read_bytes": 10e6}),
    )

    found = live.statistics()
    cpu = found["process/cpu_usage_percentage"]
    assert (cpu.minimum, cpu.maximum) == pytest.approx((100.0, 300.0))
    assert cpu.integral / 100 == pytest.approx(40.0)
    assert found["process/io_read_megabytes"].total == pytest.approx(3.0)


def test_a_share_of_periods_is_divided_by_the_periods_that_there_were() -> None:
    live = statistics_of(
        (0, {"container/cpu_throttled_periods": 5.0, "container/cpu_periods": 100.0}),
        (10, {"container/cpu_throttled_periods": 30.0, "container/cpu_periods": 200.0}),
    )

    found = live.statistics()["container/cpu_throttled_percentage"]
    assert found.mean == pytest.approx(25.0)


def test_a_counter_that_was_reset_makes_no_rate() -> None:
    live = statistics_of(
        (0, {"process/cpu_seconds": 50.0}),
        (10, {"process/cpu_seconds": 1.0}),
        (20, {"process/cpu_seconds": 6.0}),
    )

    found = live.statistics()["process/cpu_usage_percentage"]
    assert found.samples == 1
    assert found.mean == pytest.approx(50.0)


def test_what_no_number_is_makes_no_statistic() -> None:
    live = statistics_of((0, {GAUGE: float("nan")}), (10, {"unheard_of": 1.0}))

    assert live.statistics() == {}


def test_the_sample_that_a_run_opens_with_is_not_counted() -> None:
    assert statistics_of(*((10.0 * number, {GAUGE: 1.0}) for number in range(6))).samples == 5


def test_all_metrics_of_a_run_share_their_buckets() -> None:
    live = statistics_of(
        *(
            (
                10.0 * number,
                {GAUGE: 1.0, "cpu/load_average_1m": 2.0} if number > 50 else {GAUGE: 1.0},
            )
            for number in range(100)
        )
    )

    found = live.statistics()
    one, other = found[GAUGE], found["cpu/load_average_1m"]
    assert (one.grid_start_s, one.bucket_s) == (other.grid_start_s, other.bucket_s)
    assert len(one.buckets) == len(other.buckets)
    assert other.buckets[0] is None
