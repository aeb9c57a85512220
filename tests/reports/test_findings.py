"""Findings over a corpus of runs, recorded and drawn, each with what an expert would say of it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from findings_corpus import Score, found_in, read_corpus, scores
from make_findings_corpus import gpu_troubles, healthy, other_troubles
from mlflow_sysmetrics.insight.judging import judge
from mlflow_sysmetrics.insight.rules import RULES

if TYPE_CHECKING:
    from findings_corpus import History
    from mlflow_sysmetrics.insight.finding import Rule

CORPUS = read_corpus()
BY_NAME = {history.name: history for history in CORPUS}
HEALTHY = [history for history in CORPUS if not history.findings and not history.allowed]

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.id))
each_healthy = pytest.mark.parametrize("history", HEALTHY, ids=lambda history: str(history.name))


@cache
def all_scores() -> dict[str, Score]:
    return scores(CORPUS)


def test_the_corpus_has_many_runs_of_both_kinds() -> None:
    assert len(CORPUS) >= 60
    assert len(HEALTHY) >= 30
    assert sum(history.name.startswith("real-") for history in CORPUS) >= 20


@each_rule
def test_a_rule_finds_only_what_an_expert_would(rule: Rule) -> None:
    assert all_scores()[rule.id].wrong == []


@each_rule
def test_a_rule_finds_what_it_is_for(rule: Rule) -> None:
    assert all_scores()[rule.id].right


@each_healthy
def test_a_healthy_run_has_no_warning(history: History) -> None:
    assert [each.title for each in found_in(history) if each.is_warning] == []


@each_healthy
def test_nor_has_it_one_while_it_goes_on(history: History) -> None:
    warnings = {
        share: [each.title for each in found_in(history.until(share)) if each.is_warning]
        for share in (0.25, 0.5, 0.75)
    }
    assert not any(warnings.values()), warnings


@pytest.mark.parametrize("history", CORPUS, ids=lambda history: str(history.name))
def test_every_rule_answers(history: History) -> None:
    """With a finding, with nothing, or by saying what it lacks."""
    for one in history.views():
        judgement = judge(one)
        assert not [why for why in judgement.not_judged.values() if why.startswith("the rule")]
        for finding in judgement.findings:
            assert finding.title
            assert finding.advice.endswith(".")
            assert finding.evidence
            assert 0 <= finding.share <= 1


def test_a_finding_names_its_node() -> None:
    _, *nodes = BY_NAME["synthetic-leak-on-node-1"].views()

    on_nodes = {node.node: [each.id for each in judge(node).findings] for node in nodes}

    assert "memory-leak" not in on_nodes["node_0"]
    assert "memory-leak" in on_nodes["node_1"]


def test_a_gpu_that_nobody_gave_is_worth_an_information_at_most() -> None:
    found = judge(BY_NAME["synthetic-mlflows-own-idle-gpu"].view()).findings

    assert [(each.id, each.severity) for each in found] == [("gpu-idle", "info")]


def test_what_mlflows_own_monitor_does_not_log_is_not_judged() -> None:
    judgement = judge(BY_NAME["synthetic-healthy-mlflows-own"].view())

    assert {"memory-leak", "single-core", "cpu-throttled"} <= judgement.not_judged.keys()
    assert "disk-nearly-full" in judgement.judged


def test_what_was_not_used_is_told_in_hours() -> None:
    (finding,) = judge(BY_NAME["synthetic-three-of-four-gpus-unused"].view()).findings

    assert finding.waste is not None
    assert finding.waste.gpus == (1, 2, 3)
    assert finding.waste.gpu_hours == pytest.approx(21, rel=0.05)


def test_the_drawn_runs_are_what_the_script_draws() -> None:
    drawn = {f"synthetic-{each.name}" for each in [*healthy(), *gpu_troubles(), *other_troubles()]}

    assert drawn == {name for name in BY_NAME if name.startswith("synthetic-")}
