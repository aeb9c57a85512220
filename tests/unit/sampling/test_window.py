from __future__ import annotations

import math

import pytest

from mlflow_sysmetrics.sampling.window import Readings, Window

GAUGE = "system_memory_usage_megabytes"
BYTES = "network_receive_bytes"
TOTAL = "network_receive_megabytes"
CPU_SECONDS = "process/cpu_seconds"
CPU_RATE = "process/cpu_usage_percentage"


def opened(**values: float) -> Window:
    """A window whose run opened at second 0 with these readings."""
    window = Window()
    add(window, 0.0, **values)
    return window


def add(window: Window, time_s: float, **values: float) -> None:
    window.add([Readings(time_s, values)])


def window_of(*samples: tuple[float, float], reading: str) -> Window:
    """One reading: its time and value at the run's opening, and in each sample after it."""
    window = Window()
    for time_s, value in samples:
        window.add([Readings(time_s, {reading: value})])
    return window


# Gauges


def test_a_gauge_is_the_mean_of_the_samples_after_the_opening() -> None:
    window = window_of((0, 900.0), (1, 10.0), (2, 20.0), (3, 60.0), reading=GAUGE)

    assert window.close() == {GAUGE: 30.0}


def test_a_window_begins_with_nothing_of_the_one_before() -> None:
    window = window_of((0, 900.0), (1, 10.0), reading=GAUGE)
    window.close()
    window.add([Readings(2, {GAUGE: 20.0})])

    assert window.close() == {GAUGE: 20.0}


def test_a_gauge_that_only_the_opening_sample_has_is_in_the_first_window_alone() -> None:
    window = opened(**{GAUGE: 7.0})

    assert window.close() == {GAUGE: 7.0}
    assert window.close() == {}


def test_a_gauge_that_no_sample_of_a_window_has_is_left_out() -> None:
    window = window_of((0, 1.0), (1, 1.0), reading=GAUGE)
    window.close()
    add(window, 2.0, **{"memory/swap_usage_megabytes": 3.0})

    assert window.close() == {"memory/swap_usage_megabytes": 3.0}


def test_a_gauge_is_the_mean_of_the_samples_that_have_it() -> None:
    window = opened(**{GAUGE: 1.0})
    add(window, 1.0, **{GAUGE: 10.0})
    add(window, 2.0)
    add(window, 3.0, **{GAUGE: 30.0})

    assert window.samples == 3
    assert window.close()[GAUGE] == 20.0


def test_values_are_rounded_to_thousandths() -> None:
    assert opened(**{GAUGE: 2 / 3}).close() == {GAUGE: 0.667}


# Totals


def test_a_total_is_the_increase_since_the_run_opened() -> None:
    window = window_of((0, 5e6), (10, 6e6), reading=BYTES)
    assert window.close()[TOTAL] == 1.0
    window.add([Readings(20, {BYTES: 9e6})])

    assert window.close()[TOTAL] == 4.0


def test_a_counter_that_appears_later_counts_from_there() -> None:
    window = opened(**{GAUGE: 1.0})
    add(window, 10.0, **{BYTES: 5e6})
    add(window, 20.0, **{BYTES: 7e6})

    assert window.close()[TOTAL] == 2.0


# Rates


def test_a_rate_is_the_increase_over_the_window() -> None:
    window = window_of((0, 100.0), (10, 105.0), (20, 130.0), reading=CPU_SECONDS)
    assert window.close() == {CPU_RATE: 150.0}
    window.add([Readings(30, {CPU_SECONDS: 131.0})])

    assert window.close() == {CPU_RATE: 10.0}


def test_a_rate_spans_a_sample_that_lacks_its_counter() -> None:
    window = window_of((0, 0.0), (10, 5.0), reading=CPU_SECONDS)
    window.close()
    add(window, 20.0, **{GAUGE: 1.0})
    assert CPU_RATE not in window.close()
    add(window, 30.0, **{CPU_SECONDS: 15.0})

    assert window.close() == {CPU_RATE: 50.0}


def test_a_rate_may_be_per_the_increase_of_another_counter() -> None:
    window = opened(cpu_busy_seconds=1000.0, cpu_total_seconds=8000.0)
    add(window, 10.0, cpu_busy_seconds=1030.0, cpu_total_seconds=8040.0)

    assert window.close()["cpu_utilization_percentage"] == 75.0


@pytest.mark.parametrize(
    "later",
    [
        {"cpu_busy_seconds": 1030.0},
        {"cpu_busy_seconds": 1030.0, "cpu_total_seconds": 8000.0},
        {"cpu_busy_seconds": 1030.0, "cpu_total_seconds": 7000.0},
    ],
    ids=["missing", "unchanged", "reset"],
)
def test_a_rate_per_a_counter_that_did_not_rise_is_left_out(later: dict[str, float]) -> None:
    window = opened(cpu_busy_seconds=1000.0, cpu_total_seconds=8000.0)
    add(window, 10.0, **later)

    assert window.close() == {}


def test_a_counter_that_was_reset_has_no_rate_in_that_window_and_one_in_the_next() -> None:
    window = window_of((0, 100.0), (10, 3.0), reading=CPU_SECONDS)
    assert window.close() == {}
    window.add([Readings(20, {CPU_SECONDS: 8.0})])

    assert window.close() == {CPU_RATE: 50.0}


def test_the_opening_sample_alone_gives_no_rate() -> None:
    assert opened(**{CPU_SECONDS: 100.0}).close() == {}


def test_a_window_too_short_for_a_rate_is_told_with_the_next() -> None:
    window = window_of((0.0, 0.0), (1.0, 1.0), reading=CPU_SECONDS)
    window.close()
    window.add([Readings(1.05, {CPU_SECONDS: 1.05})])
    assert window.close() == {}
    window.add([Readings(2.0, {CPU_SECONDS: 1.5})])

    assert window.close() == {CPU_RATE: 50.0}


def test_each_rate_goes_by_the_times_of_its_own_collector() -> None:
    window = Window()
    window.add([Readings(0.0, {CPU_SECONDS: 0.0}), Readings(5.0, {"disk_read_bytes": 0.0})])
    window.add([Readings(10.0, {CPU_SECONDS: 5.0}), Readings(25.0, {"disk_read_bytes": 40e6})])

    assert window.close() == {CPU_RATE: 50.0, "disk/read_megabytes_per_second": 2.0}


# What is no number


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out(value: float) -> None:
    window = opened(**{GAUGE: value, BYTES: value})
    assert window.close() == {}
    add(window, 10.0, **{GAUGE: 3.0, BYTES: 5e6})
    add(window, 20.0, **{GAUGE: value, BYTES: value})

    assert window.close() == {
        GAUGE: 3.0,
        TOTAL: 0.0,
    }


def test_a_reading_that_feeds_no_metric_is_left_out() -> None:
    assert opened(nobody_knows_it=1.0).close() == {}


def test_samples_are_counted_without_the_opening_one() -> None:
    window = opened(**{GAUGE: 1.0})
    assert window.samples == 0
    add(window, 1.0, **{GAUGE: 1.0})
    assert window.samples == 1
    window.close()
    assert window.samples == 0
