"""What a run says of itself that was too short for most rules."""

from __future__ import annotations

from mlflow_sysmetrics.insight.judging import judge
from mlflow_sysmetrics.insight.run import RunView
from mlflow_sysmetrics.insight.statistics import Accumulator, Grid, frozen
from mlflow_sysmetrics.insight.summary import part_of, summarize
from mlflow_sysmetrics.insight.texts import description, tag_text
from mlflow_sysmetrics.insight.whole import FINDINGS_TAG, answers
from mlflow_sysmetrics.settings import Settings

KEY = "container/oom_kills"


def view(samples: int) -> RunView:
    grid = Grid()
    accumulators = {
        key: Accumulator(key, grid)
        for key in (KEY, "cpu_utilization_percentage", "process/cpu_utilization_percentage")
    }
    for accumulator in accumulators.values():
        for number in range(1, samples + 1):
            accumulator.add(10.0 * number, 0.0, 10.0, grid.number(10.0 * number))
    return RunView(
        statistics=frozen(accumulators), started_s=0.0, duration_s=10.0 * samples, samples=samples
    )


def test_a_short_run_says_that_most_rules_were_not_judged() -> None:
    found = answers([view(4)], Settings())

    assert found.tags[FINDINGS_TAG] == "none (too short for most)"
    assert "summary/findings" not in found.summary


def test_a_long_run_of_which_nothing_is_found_says_none() -> None:
    assert tag_text(()) == "none"
    assert judge(view(400)).too_short == ()


def test_a_short_run_has_no_count_of_findings() -> None:
    run = view(4)
    judgement = judge(run)

    assert "summary/findings" not in summarize(part_of(run, judgement), judgement)


def test_a_description_of_a_short_run_says_so_too() -> None:
    assert description((), is_short=True) == (
        "**System metrics**: nothing found, but the run was too short for most rules."
    )
    assert description(()) == "**System metrics**: nothing to remark."


def test_findings_of_a_resumed_run_say_of_which_part_they_are() -> None:
    since = "2026-12-01T09:30:00Z"

    assert tag_text((), since=since) == f"none (of the part since {since})"
    assert description((), since=since) == (
        f"**System metrics** of the part since {since}: nothing to remark."
    )
