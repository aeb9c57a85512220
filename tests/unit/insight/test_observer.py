"""What is logged of a run while it goes on, and as it ends."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_sysmetrics.insight import judging, whole
from mlflow_sysmetrics.insight import observer as observer_module
from mlflow_sysmetrics.insight.observer import Earlier, RunObserver, Subject
from mlflow_sysmetrics.insight.part import Part
from mlflow_sysmetrics.sampling.window import Readings
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from mlflow_sysmetrics.sampling.observer import Notes

EPOCH_S = 1_800_000_000.0
MEMORY = "process/memory_rss_megabytes"
KILLS = "container/oom_kills"


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer_module, "_said_of_host", set())


class Bench:
    """A run that is observed; one sample every ten seconds."""

    def __init__(self, run_id: str = "r1", **subject: Any) -> None:  # noqa: ANN401 - of any field
        settings = subject.pop("settings", Settings())
        self.observer = RunObserver(Subject(run_id, settings, **subject), 0.0, EPOCH_S)
        self.time_s = 0.0
        self.noted: list[tuple[float, Notes]] = []

    def run(self, until_s: float, **values: float) -> Bench:
        """Take samples with these readings."""
        while self.time_s <= until_s:
            readings = {MEMORY: 100.0, KILLS: 0.0} | values
            notes = self.observer.take([Readings(self.time_s, readings)])
            if notes:
                self.noted.append((self.time_s, notes))
            self.time_s += 10.0
        return self


def killed(seconds: float = 100.0, **subject: Any) -> Bench:  # noqa: ANN401 - as above
    """A run in which a process is killed for want of memory."""
    return Bench(**subject).run(seconds / 2).run(seconds, **{KILLS: 1.0})


def test_a_run_that_ends_gets_a_final_summary() -> None:
    notes = Bench().run(50).observer.close()

    assert notes.summary["summary/process_memory_rss_megabytes_max"] == 100.0
    assert notes.summary["summary/samples"] == 5
    assert notes.tags["sysmetrics.summary"] == "final"
    assert Part.from_text(notes.tags["sysmetrics.statistics"]) is not None


def test_a_run_of_two_samples_gets_nothing() -> None:
    assert not Bench().run(20).observer.close()


def test_a_provisional_summary_after_ten_minutes_and_each_doubling() -> None:
    bench = Bench().run(5000)

    provisional = [
        (time_s, notes) for time_s, notes in bench.noted if "sysmetrics.summary" in notes.tags
    ]
    assert [time_s for time_s, _ in provisional] == [600, 1200, 2400, 4800]
    assert {notes.tags["sysmetrics.summary"] for _, notes in provisional} == {"provisional"}
    assert provisional[-1][1].summary["summary/duration_seconds"] == 4800


def test_what_can_still_be_helped_is_said_at_once_and_only_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "mlflow_sysmetrics"):
        bench = killed(300)
        notes = bench.observer.close()

    (time_s, live), *others = bench.noted
    assert time_s <= 150 + 70
    assert "oom-killed" in live.tags["sys.findings"]
    assert not others
    assert "oom-killed" in notes.tags["sys.findings"]
    assert caplog.text.count("[oom-killed]") == 1


def test_a_finding_of_the_host_is_said_once_a_process(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mlflow_sysmetrics"):
        for run_id in ("r1", "r2"):
            notes = killed(run_id=run_id).observer.close()
            assert "oom-killed" in notes.tags["sys.findings"]

    assert caplog.text.count("[oom-killed]") == 1


def test_findings_can_be_switched_off_and_left_out() -> None:
    off = killed(settings=Settings(findings="off")).observer.close()
    without = killed(settings=Settings(findings_exclude=("oom-*",))).observer.close()

    assert "sys.findings" not in off.tags
    assert "summary/findings" not in off.summary
    assert "oom-killed" not in without.tags.get("sys.findings", "")


def test_the_summary_can_be_switched_off() -> None:
    notes = killed(settings=Settings(summary=("off",))).observer.close()

    assert notes.tags.keys() == {"sys.findings"}
    assert not notes.summary


def test_a_resumed_runs_summary_covers_its_earlier_parts() -> None:
    first = Bench().run(50).observer.close()
    earlier = Earlier(is_any=True, part=Part.from_text(first.tags["sysmetrics.statistics"]))

    second = Bench(earlier=lambda: earlier).run(100, **{MEMORY: 50.0}).observer.close()

    assert second.summary["summary/samples"] == 15
    assert second.summary["summary/duration_seconds"] == 150
    assert second.summary["summary/process_memory_rss_megabytes_max"] == 100.0
    assert second.tags["sysmetrics.summary"] == "final"


@pytest.mark.parametrize("earlier", [None, Earlier(is_any=True)])
def test_a_summary_without_the_earlier_parts_says_since_when_it_counts(
    earlier: Earlier | None,
) -> None:
    notes = Bench(earlier=lambda: earlier).run(50).observer.close()

    assert notes.tags["sysmetrics.summary"] == "final since 2027-01-15T08:00:00Z"
    assert notes.summary["summary/samples"] == 5


def test_a_run_within_another_names_the_one_that_answers_for_the_tree() -> None:
    notes = Bench(outer_run_id="outer").run(50).observer.close()

    assert notes.tags["sysmetrics.summary"] == "final, within run outer"


def test_one_node_of_several_logs_no_summary() -> None:
    bench = Bench(settings=Settings(node_id="node_1")).run(2000)

    assert not bench.noted
    assert not bench.observer.close()


@pytest.mark.parametrize(("has_one", "is_described"), [(False, True), (True, False), (None, False)])
def test_findings_describe_a_run_that_the_user_has_not_described(
    *, has_one: bool | None, is_described: bool
) -> None:
    settings = Settings(findings="describe")
    notes = killed(settings=settings, has_description=lambda: has_one).observer.close()

    text = notes.tags.get("mlflow.note.content", "")
    assert ("`oom-killed`" in text) == is_described


def test_the_store_is_not_asked_for_a_description_unless_one_is_wanted() -> None:
    def ask() -> bool:
        raise AssertionError

    assert killed(has_description=ask).observer.close()


def test_the_final_judgement_replaces_the_live_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = killed(300)
    monkeypatch.setattr(
        whole,
        "judge",
        lambda run, *globs: replace(judging.judge(run, *globs), findings=()),
    )

    assert bench.observer.close().tags["sys.findings"] == "none"
