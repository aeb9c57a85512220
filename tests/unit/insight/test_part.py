"""What a tag keeps of a part of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.insight.part import Part, beside, together
from mlflow_sysmetrics.insight.statistics import Accumulator, Grid, frozen

STARTED_S = 1_800_000_000.0
SHARE = "cpu_utilization_percentage"
TOTAL = "process/io_read_megabytes"


def part_of(values: dict[str, list[float]], started_s: float = STARTED_S) -> Part:
    grid = Grid()
    accumulators = {key: Accumulator(key, grid) for key in values}
    for key, accumulator in accumulators.items():
        for number, value in enumerate(values[key], 1):
            time_s = started_s + 10.0 * number
            accumulator.add(time_s, value, 10.0, grid.number(time_s))
    count = max(map(len, values.values()))
    return Part(frozen(accumulators), started_s, 10.0 * count, count, 0.5, 0.25)


def test_what_a_tag_keeps_is_what_it_gives() -> None:
    part = part_of({SHARE: [10.0, 20.0, 90.0], TOTAL: [1.5, 4.0]})

    kept = Part.from_text(part.to_text())

    assert kept is not None
    assert (kept.started_s, kept.duration_s, kept.samples) == (STARTED_S, 30.0, 3)
    assert (kept.gpu_hours, kept.gpu_hours_wasted) == (0.5, 0.25)
    for key, statistic in part.statistics.items():
        without = replace(
            statistic, buckets=(), bucket_covered_s=(), bucket_s=1.0, grid_start_s=STARTED_S
        )
        assert replace(kept.statistics[key], mean=without.mean) == without
        assert kept.statistics[key].mean == pytest.approx(without.mean, rel=1e-5)


def test_parts_after_each_other_add_up() -> None:
    first = part_of({SHARE: [10.0, 10.0], TOTAL: [3.0, 5.0]})
    second = part_of({SHARE: [40.0], TOTAL: [6.0]}, STARTED_S + 9000)

    whole = together((Part.from_text(first.to_text()) or first, second))

    assert (whole.duration_s, whole.samples) == (30.0, 3)
    assert whole.statistics[SHARE].mean == pytest.approx(20.0)
    assert whole.statistics[SHARE].p95 == 40.0
    assert whole.statistics[TOTAL].total == 11.0
    assert whole.gpu_hours == 1.0


def test_nodes_beside_each_other_take_the_time_of_the_longest() -> None:
    whole = beside((part_of({SHARE: [10.0, 10.0]}), part_of({SHARE: [40.0, 40.0, 40.0]})))

    assert whole.duration_s == 30.0
    assert whole.statistics[SHARE].mean == pytest.approx(28.0)


def test_the_power_of_nodes_is_what_all_used_over_the_time_of_the_longest() -> None:
    key = "gpu/power_usage_watts"

    whole = beside(
        (part_of({key: [300.0, 500.0]}), part_of({key: [100.0]}), part_of({SHARE: [1.0]}))
    )

    # 400 W for 20 s, and beside it 100 W for 10 s.
    assert whole.statistics[key].mean == pytest.approx(450.0)


def test_a_tag_is_never_too_long() -> None:
    many = {
        f"gpu_{number}_power_usage_watts": [1.07**step * (1 + number) for step in range(300)]
        for number in range(64)
    }

    text = part_of(many).to_text()

    assert len(text) <= MAX_TAG_LENGTH
    kept = Part.from_text(text)
    assert kept is not None
    assert kept.statistics["gpu_0_power_usage_watts"].samples == 300


@pytest.mark.parametrize(
    "text", ["", "final", "1:", "1:!!!", "1:AAAA", "1:eJyrVkpUslIyUNJRSlSyUjJQqgUAJpIEaQ==", "2:x"]
)
def test_what_is_no_such_tag_says_nothing(text: str) -> None:
    assert Part.from_text(text) is None
