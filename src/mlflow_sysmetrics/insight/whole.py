"""A stored run as a whole: what all its nodes did, judged, and put into one summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.finding import Judgement
from mlflow_sysmetrics.insight.judging import judge, worst_first
from mlflow_sysmetrics.insight.part import beside
from mlflow_sysmetrics.insight.summary import part_of, summarize
from mlflow_sysmetrics.insight.texts import tag_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.insight.run import RunView
    from mlflow_sysmetrics.settings import Settings

FINDINGS_TAG = "sys.findings"
SUMMARY_TAG = "sysmetrics.summary"
STATISTICS_TAG = "sysmetrics.statistics"

RECOMPUTED = "recomputed"


@dataclass(frozen=True)
class Answers:
    """What is to be logged of a run.

    Attributes:
        summary: Values by key below `system/`.
        tags: Tags to set.
        judgement: What the rules say, on all nodes; None where they were not asked.
    """

    summary: dict[str, float]
    tags: dict[str, str]
    judgement: Judgement | None


def answers(views: Sequence[RunView], settings: Settings) -> Answers:
    """What the samples of a run say of it.

    Args:
        views: What each of its nodes did; one at least.
        settings: Which values and findings are wanted.
    """
    judgements = (
        [judge(view, settings.findings_exclude) for view in views]
        if settings.has_findings
        else [None for _ in views]
    )
    judgement = judge_nodes(views, [each for each in judgements if each is not None])
    part = beside(part_of(view, each) for view, each in zip(views, judgements, strict=True))
    summary = summarize(part, views[0], judgement, settings.summary) if settings.has_summary else {}
    tags = {}
    if judgement is not None and judgement.judged:
        tags[FINDINGS_TAG] = tag_text(judgement.findings)
    if summary:
        tags[SUMMARY_TAG] = RECOMPUTED
        tags[STATISTICS_TAG] = part.to_text()
    return Answers(summary, tags, judgement)


def judge_nodes(views: Sequence[RunView], judgements: Sequence[Judgement]) -> Judgement | None:
    """One judgement of several nodes, whose findings name their node; None for none."""
    if not judgements:
        return None
    findings = [
        replace(finding, node=view.node)
        for view, each in zip(views, judgements, strict=True)
        for finding in each.findings
    ]
    judged = {rule: None for each in judgements for rule in each.judged}
    not_judged = {rule: why for each in judgements for rule, why in each.not_judged.items()}
    return Judgement(
        tuple(worst_first(findings)),
        {rule: why for rule, why in not_judged.items() if rule not in judged},
        tuple(judged),
    )
