"""A run on several nodes: what each says of itself, and what the last one says of all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.insight import observer as observer_module
from mlflow_sysmetrics.insight.finding import Finding, Judgement, Waste
from mlflow_sysmetrics.insight.last_word import LastWord
from mlflow_sysmetrics.insight.node_tag import NodeTag, key_of, node_tags
from mlflow_sysmetrics.insight.observer import Earlier, RunObserver, Subject
from mlflow_sysmetrics.insight.run import NodeGpus
from mlflow_sysmetrics.insight.whole import NodeResult
from mlflow_sysmetrics.sampling.window import Readings
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.sampling.observer import Notes
    from mlflow_sysmetrics.sampling.sink import Record

EPOCH_S = 1_800_000_000.0
USED, CPU = "gpu_0_utilization_percentage", "cpu_utilization_percentage"
POWER, KILLS = "gpu/power_usage_watts", "container/oom_kills"
GIVEN = {"sysmetrics.gpu_allocation": "SLURM_JOB_GPUS"}


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer_module, "_said_of_host", set())


class Node:
    """One node of two; one sample every ten seconds."""

    def __init__(self, number: int, **subject: Any) -> None:  # noqa: ANN401 - of any field
        self.settings = Settings(node_id=f"node_{number}").overridden(**subject.pop("set", {}))
        given = {"nodes": 2, "facts": lambda: GIVEN, **subject}
        self.observer = RunObserver(Subject("r1", self.settings, **given), 0.0, EPOCH_S)
        self.tags: dict[str, str] = {}
        self.time_s = 0.0

    def run(self, until_s: float, **values: float) -> Node:
        while self.time_s <= until_s:
            readings = {CPU: 50.0, KILLS: 0.0} | values
            self._take(self.observer.take([Readings(self.time_s, readings)]))
            self.time_s += 10.0
        return self

    def close(self) -> Node:
        self._take(self.observer.close())
        return self

    def _take(self, notes: Notes) -> None:
        assert not notes.summary
        self.tags.update(notes.tags)


def trained(number: int, until_s: float = 2000.0, used: float = 90.0, **more: Any) -> Node:  # noqa: ANN401 - as above
    values = {USED: used, "gpu/utilization_percentage": used, POWER: 300.0}
    return Node(number, **more).run(until_s, **values)


def said(
    tags: Mapping[str, str], *, is_leader: bool = False, settings: Settings | None = None
) -> Record | None:
    return LastWord(settings or Settings(), 2, is_leader)(tags)


def test_a_node_says_provisionally_and_at_its_end_what_it_did() -> None:
    node = trained(1)
    assert node.tags.keys() == {"sysmetrics.node_1"}
    assert node.tags["sysmetrics.node_1"].startswith("provisional; ")

    (tag,) = node_tags(node.close().tags)
    assert (tag.state, tag.nodes, tag.result.node) == ("final", 2, "node_1")
    assert tag.result.part.samples == 200
    assert tag.result.gpus == NodeGpus(90.0, is_certain=True)


def test_a_node_whose_name_was_set_by_hand_says_nothing() -> None:
    assert not trained(1, nodes=1).close().tags


def test_the_node_that_finds_all_others_ended_sums_up_the_run() -> None:
    tags = {**trained(0).close().tags, **trained(1, used=40.0).close().tags}

    record = said(tags)

    assert record is not None
    assert record.tags["sysmetrics.summary"] == "final"
    assert record.summary["summary/samples"] == 400
    assert record.summary["summary/duration_seconds"] == 2000
    assert record.summary["summary/gpu_utilization_percentage_mean"] == pytest.approx(65.0)
    assert record.summary["summary/gpu_power_usage_watts_mean"] == pytest.approx(600.0)
    assert record.summary["summary/gpu_hours"] == pytest.approx(2 * 2000 / 3600, abs=1e-3)
    assert record.tags["sys.findings"] == "rank-imbalance (node_1); info: gpu-low (node_1)"
    assert record.summary["summary/findings"] == 1


def test_two_nodes_that_end_at_once_say_the_same() -> None:
    tags = {**trained(0).close().tags, **trained(1).close().tags}

    assert said(tags, is_leader=True) == said(tags)


@pytest.mark.parametrize("has_said", [False, True])
def test_of_a_node_that_never_ended_only_the_leader_tells(*, has_said: bool) -> None:
    lost = trained(1, until_s=700.0).tags if has_said else {}
    tags = {**trained(0).close().tags, **lost}

    assert said(tags) is None
    record = said(tags, is_leader=True)
    assert record is not None
    assert record.tags["sysmetrics.summary"] == "provisional, 1 of 2 nodes"
    # It had said what it did in the first ten minutes.
    assert record.summary["summary/samples"] == 200 + 60 * has_said


def test_what_is_said_of_all_nodes_is_later_than_what_was_said_of_some() -> None:
    """Else MLflow would show the older; the clock of the second node is ten minutes behind."""
    leader = trained(0).close().tags
    early = said(leader, is_leader=True)
    other = trained(1, until_s=1400.0).close().tags

    late = said({**leader, **other})

    assert early is not None
    assert late is not None
    assert late.timestamp_ms > early.timestamp_ms


def test_what_a_node_finds_while_it_runs_stands_in_its_own_tag() -> None:
    leader, other = Node(0).run(100), Node(1).run(100)
    leader.run(300, **{KILLS: 1.0})
    observer_module._said_of_host.clear()  # the other node is another process
    other.run(300, **{KILLS: 1.0})

    assert leader.tags["sys.findings"] == "!oom-killed (node_0)"
    assert "sys.findings" not in other.tags
    assert other.tags["sysmetrics.node_1"].startswith("provisional; !oom-killed")


def test_a_node_of_a_resumed_run_does_not_count_as_ended_any_more() -> None:
    (first,) = node_tags(trained(1).close().tags)

    again = Node(1, earlier=lambda: Earlier(is_any=True, part=first.result.part)).run(40)
    assert again.tags["sysmetrics.node_1"].startswith("provisional")

    (both,) = node_tags(again.close().tags)
    assert both.result.part.samples == 204
    record = said({**trained(0).close().tags, **again.tags})
    assert record is not None
    assert record.tags["sysmetrics.summary"] == "final"
    assert record.tags["sys.findings"].endswith(" (of the part since 2027-01-15T08:00:00Z)")


def test_a_node_with_too_few_samples_ends_all_the_same() -> None:
    tags = {**trained(0).close().tags, **Node(1).run(10).close().tags}

    record = said(tags)

    assert record is not None
    assert record.tags["sysmetrics.summary"] == "final"
    assert record.summary["summary/samples"] == 201


@pytest.mark.parametrize(("text", "is_described"), [("", True), ("My run.", False)])
def test_findings_of_all_nodes_describe_the_run(text: str, *, is_described: bool) -> None:
    tags = {**trained(0).close().tags, **trained(1, used=40.0).close().tags}

    record = said({**tags, "mlflow.note.content": text}, settings=Settings(findings="describe"))

    assert record is not None
    described = record.tags.get("mlflow.note.content", "")
    assert ("`gpu-low` on node_1: GPU 0 in use for 40 % of the time." in described) == is_described


def many_findings(count: int) -> Judgement:
    findings = tuple(
        Finding(
            f"rule-{number}",
            "warning" if number % 2 else "info",
            f"Title of number {number * 7919}",
            {f"metric_{number}": number / 7},
            f"Advice that says what to do about {number * 104729}.",
            waste=Waste(number / 3, gpus=(number,)),
        )
        for number in range(count)
    )
    return Judgement(findings, {}, tuple(each.id for each in findings))


@pytest.mark.parametrize("nodes", [2, 8, 64])
@pytest.mark.parametrize("findings", [0, 3, 30])
def test_a_nodes_tag_is_never_too_long_and_keeps_each_finding(nodes: int, findings: int) -> None:
    (tag,) = node_tags(trained(1).close().tags)
    result = replace(tag.result, judgement=many_findings(findings))

    text = NodeTag("final", nodes, result).to_text()

    assert len(text) <= min(MAX_TAG_LENGTH, max(2000, 64_000 // nodes))
    kept = NodeTag.from_text("node_1", text)
    assert kept is not None
    assert kept.result.judgement is not None
    given = {each.id: (each.severity, each.waste) for each in many_findings(findings).findings}
    assert {
        each.id: (each.severity, each.waste) for each in kept.result.judgement.findings
    } == given


@pytest.mark.parametrize("text", ["", "final", "final; none 1: 1:", "final 1:AAAA 1:AAAA", "a b c"])
def test_what_is_no_such_tag_is_left_out(text: str) -> None:
    assert node_tags({"sysmetrics.node_1": text}) == []


def test_nodes_come_in_the_order_of_their_numbers() -> None:
    text = NodeTag(
        "final", 12, NodeResult(None, node_tags(trained(1).tags)[0].result.part)
    ).to_text()

    tags = {key_of(f"node_{number}"): text for number in (10, 2, 0)}

    assert [each.result.node for each in node_tags(tags)] == ["node_0", "node_2", "node_10"]
