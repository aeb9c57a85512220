"""The summary says what counts, and nothing that is not known."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from mlflow_sysmetrics import log
from mlflow_sysmetrics.catalog import METRICS, SUMMARY, summary_name
from mlflow_sysmetrics.insight.finding import Finding, Judgement, Waste
from mlflow_sysmetrics.insight.run import Known, RunGpus, RunView
from mlflow_sysmetrics.insight.statistics import Accumulator, Grid, frozen
from mlflow_sysmetrics.insight.summary import MAX_VALUES, part_of, summarize

HOUR_S = 3600.0
STARTED_S = 1_800_000_000.0
PSS, RSS = "process/memory_pss_megabytes", "process/memory_rss_megabytes"
UTILIZATION = "gpu/utilization_percentage"


def run_of(histories: dict[str, list[float]], **more: Any) -> RunView:  # noqa: ANN401 - of any field
    """A run of an hour, each metric with values at equal distances."""
    grid = Grid()
    accumulators = {}
    for key, values in histories.items():
        accumulator = accumulators[key] = Accumulator(key, grid)
        span_s = HOUR_S / len(values)
        for number, value in enumerate(values, 1):
            time_s = STARTED_S + number * span_s
            accumulator.add(time_s, value, span_s, grid.number(time_s))
    return RunView(frozen(accumulators), STARTED_S, HOUR_S, 360, **more)


def summary_of(
    run: RunView, judgement: Judgement | None = None, globs: tuple[str, ...] = ()
) -> dict[str, float]:
    found = summarize(part_of(run, judgement, globs), judgement, globs)
    return {key.removeprefix("summary/"): value for key, value in found.items()}


def finding(rule: str, severity: Any, gpu_hours: float, *gpus: int) -> Finding:  # noqa: ANN401 - a literal
    return Finding(rule, severity, "A title", {}, "Advice", waste=Waste(gpu_hours, gpus=gpus))


def test_means_percentiles_maxima_and_totals() -> None:
    run = run_of(
        {
            "cpu_utilization_percentage": [10.0] * 90 + [90.0] * 10,
            "process/cpu_usage_percentage": [250.0, 150.0],
            PSS: [100.0, 900.0, 300.0],
            "network_receive_megabytes": [1.0, 5.0],
        }
    )

    assert summary_of(run) == {
        "cpu_utilization_percentage_mean": 18.0,
        "cpu_utilization_percentage_p95": 90.0,
        "process_cpu_seconds_total": 2 * HOUR_S,
        "process_memory_pss_megabytes_max": 900.0,
        "network_receive_megabytes_total": 5.0,
        "duration_seconds": HOUR_S,
        "samples": 360,
    }


def test_a_run_of_two_samples_has_none() -> None:
    assert summary_of(replace(run_of({PSS: [1.0, 2.0]}), samples=2)) == {}


def test_memory_is_told_by_the_figure_that_says_most() -> None:
    both = summary_of(run_of({PSS: [1.0], RSS: [2.0], "system_memory_usage_megabytes": [9.0]}))
    only_host = summary_of(run_of({"system_memory_usage_megabytes": [9.0]}))

    assert [name for name in both if "memory" in name] == ["process_memory_pss_megabytes_max"]
    assert only_host["system_memory_usage_megabytes_max"] == 9.0


def test_the_fullest_of_the_runs_gpus_counts() -> None:
    key = "gpu_{}_memory_usage_percentage"
    run = run_of(
        {key.format(0): [20.0], key.format(1): [70.0], key.format(2): [99.0]},
        gpus=RunGpus((0, 1), Known.GIVEN),
    )

    assert summary_of(run)["gpu_memory_usage_percentage_max"] == 70.0


def test_gpu_hours_only_where_it_is_known_whose_the_gpus_are() -> None:
    unknown = run_of({UTILIZATION: [50.0]}, gpus=RunGpus((0, 1)))
    given = replace(unknown, gpus=RunGpus((0, 1), Known.GIVEN))

    assert "gpu_hours" not in summary_of(unknown)
    assert summary_of(given)["gpu_hours"] == 2.0
    assert "gpu_hours" not in summary_of(replace(given, is_outermost=False))


def test_the_wasted_hours_of_a_gpu_count_once_however_many_findings_see_them() -> None:
    run = run_of({UTILIZATION: [50.0]}, gpus=RunGpus((0, 1), Known.HELD))
    judgement = Judgement(
        (
            finding("gpu-unused", "critical", 1.0, 1),
            finding("gpu-idle", "critical", 1.2, 0, 1),
            finding("cpu-overprovisioned", "info", 0.0),
        ),
        judged=("gpu-unused", "gpu-idle", "cpu-overprovisioned"),
    )

    found = summary_of(run, judgement)
    assert found["gpu_hours_wasted"] == pytest.approx(1.6)
    assert found["findings"] == 2


def test_nothing_judged_is_no_clean_bill() -> None:
    run = run_of({UTILIZATION: [50.0]}, gpus=RunGpus((0,), Known.GIVEN))

    assert not {"findings", "gpu_hours_wasted"} & summary_of(run, Judgement()).keys()
    only_cpu = summary_of(run, Judgement(judged=("memory-leak",)))
    assert only_cpu["findings"] == 0
    assert "gpu_hours_wasted" not in only_cpu


def test_globs_choose_any_statistic_of_any_metric() -> None:
    run = run_of({PSS: [100.0, 300.0], "disk/read_megabytes_per_second": [4.0]})

    found = summary_of(run, globs=("*_pss_*_mean", "disk_read_*", "samples"))
    assert found == {
        "process_memory_pss_megabytes_mean": 200.0,
        "disk_read_megabytes_per_second_mean": 4.0,
        "disk_read_megabytes_per_second_p95": pytest.approx(4.0, rel=0.02),
        "disk_read_megabytes_per_second_max": 4.0,
        "samples": 360,
    }


def test_more_than_25_values_are_cut_off_and_that_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_said", set())
    run = run_of({f"gpu_{number}_power_usage_watts": [1.0] for number in range(16)})

    with caplog.at_level(logging.WARNING, "mlflow_sysmetrics"):
        assert len(summary_of(run, globs=("*",))) == MAX_VALUES
    assert "MLFLOW_SYSMETRICS_SUMMARY chooses" in caplog.text


def test_no_two_metrics_have_the_same_name_in_a_summary() -> None:
    names = [summary_name(metric.key, "mean") for metric in METRICS]
    assert len(set(names)) == len(names)
    assert len({each.name for each in SUMMARY}) == len(SUMMARY)


def test_no_run_has_more_than_25_values_unasked() -> None:
    one_of_several = sum(bool(each.unless) for each in SUMMARY)
    assert len(SUMMARY) - one_of_several <= MAX_VALUES
