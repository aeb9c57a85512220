from __future__ import annotations

import pytest

from mlflow_sysmetrics.distributed.candidates import EARLY_MS, AmbiguousRuns, runs_of_job
from mlflow_sysmetrics.distributed.job import JOB_TAG, Job
from mlflow_sysmetrics.distributed.launchers import LAUNCHERS
from mlflow_sysmetrics.distributed.run_search import FoundRun

LAUNCHED_MS = 1_700_000_000_000


def job(*, recurs: bool) -> Job:
    return Job(LAUNCHERS[0], rank=1, size=2, nodes=2, node=1, key="key", recurs=recurs)


def run(run_id: str, after_s: float, host: str = "aaaaaa", process: str = "000001") -> FoundRun:
    return FoundRun(
        run_id, "0", LAUNCHED_MS + round(after_s * 1000), {JOB_TAG: f"key.{host}{process}"}
    )


@pytest.mark.parametrize("recurs", [True, False])
def test_the_run_of_the_job_is_taken(*, recurs: bool) -> None:
    ours = run("ours", 20)

    assert runs_of_job([ours], job(recurs=recurs), LAUNCHED_MS) == [ours]


@pytest.mark.parametrize("recurs", [True, False])
def test_all_open_runs_of_its_process_are_taken(*, recurs: bool) -> None:
    runs = [run("nested", 30), run("ours", 20)]

    assert runs_of_job(runs, job(recurs=recurs), LAUNCHED_MS) == runs


def test_a_run_of_an_earlier_job_with_the_same_address_is_not() -> None:
    old = run("old", -EARLY_MS / 1000 - 1)

    assert runs_of_job([old], job(recurs=True), LAUNCHED_MS) == []


def test_clocks_of_hosts_may_differ_by_two_minutes() -> None:
    ours = run("ours", -EARLY_MS / 1000)

    assert runs_of_job([ours], job(recurs=True), LAUNCHED_MS) == [ours]


def test_a_host_that_joins_a_named_job_late_takes_its_run() -> None:
    ours = run("ours", -86_400)

    assert runs_of_job([ours], job(recurs=False), LAUNCHED_MS) == [ours]


def test_two_jobs_with_one_address_are_told_apart_by_none() -> None:
    with pytest.raises(AmbiguousRuns, match="one, another"):
        runs_of_job([run("one", 9), run("another", 5, "bbbbbb")], job(recurs=True), LAUNCHED_MS)


@pytest.mark.parametrize("recurs", [True, False])
def test_a_run_that_a_killed_rank_left_open_gives_way_to_the_next(*, recurs: bool) -> None:
    left, ours = run("left", 5, process="000001"), run("ours", 40, process="000002")

    assert runs_of_job([left, ours], job(recurs=recurs), LAUNCHED_MS) == [ours]
