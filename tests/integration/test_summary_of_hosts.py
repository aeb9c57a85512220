"""A run on two hosts has one summary and one list of findings, whichever host ends last."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from fakes.waiting import eventually
from integration.launcher import SCRIPTS, Launcher
from integration.training import RANK, START_RANKS, Training, points_of
from mlflow_sysmetrics.cli.summarize import Summarizer
from mlflow_sysmetrics.insight.node_tag import NodeTag
from mlflow_sysmetrics.insight.stored import read_views
from mlflow_sysmetrics.insight.whole import answers
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from integration.launcher import Run
    from integration.servers import TrackingServer

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts are namespaces, which root can make"),
    pytest.mark.timeout(240),
]

A, B = "lab-a", "lab-b"

ALL_METRICS = {"MLFLOW_SYSMETRICS_DISTRIBUTED": "all"}
NAMELESS = {"MLFLOW_SYSMETRICS_EXCLUDE_TAGS": "sys.hostname"}


@pytest.fixture
def training(tmp_path: Path, plugin: Path, tracking_server: TrackingServer) -> Iterator[Training]:
    launcher = Launcher(plugin, tmp_path, tracking_server.address)
    variables = ALL_METRICS | NAMELESS
    with Training.of(launcher, tracking_server.store_uri, **variables) as training:
        yield training


def start(training: Training, script: Path = RANK) -> None:
    """One rank on each of two hosts, as torchrun starts them."""
    for node, host in enumerate((A, B)):
        ranks: list[str | Path] = [
            sys.executable,
            START_RANKS,
            "a-job",
            str(node),
            "2",
            "1",
            script,
        ]
        training.start(ranks, host)


def summary_of(run: Run) -> dict[str, float]:
    prefix = "summary/"
    return {
        key.removeprefix(prefix): points[-1].value
        for key, points in run.series.items()
        for key in [key.removeprefix("system/")]
        if key.startswith(prefix)
    }


def summed_up_again(address: str, run_id: str) -> dict[str, float]:
    """The summary as `summarize` makes it of the metrics in the store alone."""
    client = MlflowClient(address)
    found = answers(read_views(client, client.get_run(run_id)), Settings())
    return {key.removeprefix("summary/"): value for key, value in found.summary.items()}


def assert_same(live: dict[str, float], stored: dict[str, float]) -> None:
    assert live.keys() == stored.keys()
    for key, value in live.items():
        assert value == pytest.approx(stored[key], rel=0.15, abs=1.0), key


def test_a_run_on_two_hosts_has_one_summary_over_both(
    training: Training, tracking_server: TrackingServer
) -> None:
    start(training)
    training.wait_for_points("0", "1", count=8)
    run = training.end()

    assert run.tags["sysmetrics.summary"] == "final"
    assert run.tags["sys.findings"] == "none (too short for most)"
    summary = summary_of(run)
    points = [points_of(run, node) for node in ("0", "1")]
    assert summary["samples"] == pytest.approx(sum(map(len, points)), abs=2)
    assert summary["duration_seconds"] < sum(
        (each[-1].timestamp_ms - each[0].timestamp_ms) / 1000 for each in points
    )
    assert_same(summary, summed_up_again(tracking_server.address, run.run_id))


def test_the_name_of_a_host_stands_nowhere_if_it_is_excluded(training: Training) -> None:
    start(training)
    training.wait_for_points("0", "1", count=4)
    run = training.end()

    for node in ("node_0", "node_1"):
        tag = NodeTag.from_text(node, run.tags[f"sysmetrics.{node}"])
        assert tag is not None
        assert A not in repr(tag)
        assert B not in repr(tag)


def test_a_host_that_outlives_the_run_sums_it_up(training: Training) -> None:
    start(training, SCRIPTS / "rank_of_several_runs.py")
    training.wait_for_points("0", "1", name="first", count=4)
    training.tell("next")
    eventually(lambda: training.runs[0].status == "FINISHED")
    eventually(lambda: training.runs[0].tags.get("sysmetrics.summary") == "final")

    first = training.runs[0]
    points = sum(len(points_of(first, node)) for node in ("0", "1"))
    assert summary_of(first)["samples"] == pytest.approx(points, abs=2)


def test_of_a_host_that_is_killed_the_run_has_what_is_known(
    training: Training, tracking_server: TrackingServer
) -> None:
    start(training)
    training.wait_for_points("0", "1", count=6)
    training.tell("kill-1")
    eventually((training.told / "did-kill-1").exists)
    run = training.end()

    assert run.tags["sysmetrics.summary"] == "provisional, 1 of 2 nodes"
    assert "sysmetrics.node_1" not in run.tags
    of_one = summary_of(run)["samples"]
    assert of_one == pytest.approx(len(points_of(run, "0")), abs=1)

    Summarizer(tracking_server.address, Settings(), dry_run=False).named([run.run_id])

    made_whole = training.run
    assert made_whole.tags["sysmetrics.summary"] == "recomputed"
    # What rank 0's host has said of itself, and the metrics of the other.
    assert summary_of(made_whole)["samples"] == of_one + len(points_of(run, "1"))
