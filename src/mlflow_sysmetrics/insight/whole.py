"""A stored run as a whole: what all its nodes did, judged, and put into one summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.finding import Judgement
from mlflow_sysmetrics.insight.judging import judge, worst_first
from mlflow_sysmetrics.insight.part import beside
from mlflow_sysmetrics.insight.run import RunView
from mlflow_sysmetrics.insight.summary import part_of, summarize
from mlflow_sysmetrics.insight.texts import tag_text

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    judgements: list[Judgement | None] = [None for _ in views]
    judgement = None
    if settings.has_findings:
        judged = [judge(view, settings.findings_exclude) for view in views]
        judgement = _together(views, judged)
        if len(views) > 1:
            judgement = _with(judgement, judge(_of_all(views), settings.findings_exclude))
        judgements = list(judged)
    part = beside(
        part_of(view, each, settings.summary) for view, each in zip(views, judgements, strict=True)
    )
    summary = summarize(part, views[0], judgement, settings.summary) if settings.has_summary else {}
    tags = {}
    if judgement is not None and judgement.judged:
        tags[FINDINGS_TAG] = tag_text(judgement.findings, is_short=bool(judgement.too_short))
    if summary:
        tags[SUMMARY_TAG] = RECOMPUTED
        tags[STATISTICS_TAG] = part.to_text()
    return Answers(summary, tags, judgement)


def _together(views: Sequence[RunView], judgements: Sequence[Judgement]) -> Judgement:
    """The judgements of several nodes as one, whose findings name their node."""
    whole = Judgement()
    for view, each in zip(views, judgements, strict=True):
        named = tuple(replace(finding, node=view.node) for finding in each.findings)
        whole = _with(whole, replace(each, findings=named))
    return whole


def _with(one: Judgement, other: Judgement) -> Judgement:
    judged = tuple(dict.fromkeys((*one.judged, *other.judged)))
    not_judged = {**one.not_judged, **other.not_judged}
    too_short = dict.fromkeys((*one.too_short, *other.too_short))
    return Judgement(
        tuple(worst_first((*one.findings, *other.findings))),
        {rule: why for rule, why in not_judged.items() if rule not in judged},
        judged,
        tuple(rule for rule in too_short if rule not in judged),
    )


def _of_all(views: Sequence[RunView]) -> RunView:
    """What is to be judged of nodes only where they are seen together."""
    started_s = min(view.started_s for view in views)
    return RunView(
        statistics={},
        started_s=started_s,
        duration_s=max(view.ended_s for view in views) - started_s,
        samples=min(view.samples for view in views),
        facts=views[0].facts,
        nodes=tuple(views),
    )
