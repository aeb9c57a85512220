"""A run as a whole: what all its nodes did, and what was found, put into one summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.finding import Judgement
from mlflow_sysmetrics.insight.judging import judge, worst_first
from mlflow_sysmetrics.insight.part import Part, beside
from mlflow_sysmetrics.insight.rules import RULES
from mlflow_sysmetrics.insight.rules.gpu import node_gpus
from mlflow_sysmetrics.insight.run import NodeGpus, RunView
from mlflow_sysmetrics.insight.summary import part_of, summarize
from mlflow_sysmetrics.insight.texts import tag_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_sysmetrics.settings import Settings

FINDINGS_TAG = "sys.findings"
SUMMARY_TAG = "sysmetrics.summary"
STATISTICS_TAG = "sysmetrics.statistics"

PROVISIONAL = "provisional"
FINAL = "final"
RECOMPUTED = "recomputed"


@dataclass(frozen=True)
class NodeResult:
    """What one node of a run did, and what was found there.

    Attributes:
        node: Its name; None for a run that has one.
        part: What a summary needs to know of it.
        judgement: What the rules say; None where they were not asked.
        gpus: What it uses of its GPUs; None where they cannot be judged.
        since: When that part of a resumed run began that was judged; empty for all of it.
    """

    node: str | None
    part: Part
    judgement: Judgement | None = None
    gpus: NodeGpus | None = None
    since: str = ""


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
    """What the stored samples of a run say of it.

    Args:
        views: What each of its nodes did; one at least.
        settings: Which values and findings are wanted.
    """
    return answers_of([result_of(view, settings) for view in views], settings, RECOMPUTED)


def result_of(view: RunView, settings: Settings) -> NodeResult:
    """What one node did, judged."""
    judgement = judge(view, settings.findings_exclude) if settings.has_findings else None
    part = part_of(view, judgement, settings.summary)
    return NodeResult(view.node, part, judgement, node_gpus(view) if view.node else None)


def answers_of(results: Sequence[NodeResult], settings: Settings, state: str) -> Answers:
    """What several nodes, or the only one, say of a run.

    Args:
        results: What each of them did; one at least.
        settings: Which values and findings are wanted.
        state: For the tag that tells what the summary is.
    """
    judgement = judgement_of(results, settings)
    part = beside(each.part for each in results)
    summary = summarize(part, judgement, settings.summary) if settings.has_summary else {}
    tags = {}
    if judgement is not None and judgement.judged:
        is_short = bool(judgement.too_short)
        tags[FINDINGS_TAG] = tag_text(
            judgement.findings, is_short=is_short, since=judged_since(results)
        )
    if summary:
        tags[SUMMARY_TAG] = state
        tags[STATISTICS_TAG] = part.to_text()
    return Answers(summary, tags, judgement)


def judged_since(results: Iterable[NodeResult]) -> str:
    """When that part of a resumed run began that was judged on all nodes; empty for all of it."""
    return max(each.since for each in results)


def judgement_of(results: Sequence[NodeResult], settings: Settings) -> Judgement | None:
    """The judgements of nodes as one, with what shows only where they are seen together."""
    found = [(each.node, each.judgement) for each in results if each.judgement is not None]
    if not found:
        return None
    too_short = set.intersection(*(set(judgement.too_short) for _, judgement in found))
    if len(results) > 1:
        found.append((None, judge(_of_all(results), settings.findings_exclude, _OF_ALL_NODES)))
    judged = tuple(dict.fromkeys(rule for _, judgement in found for rule in judgement.judged))
    not_judged = {rule: why for _, each in found for rule, why in each.not_judged.items()}
    return Judgement(
        tuple(
            worst_first(
                replace(finding, node=node or finding.node)
                for node, judgement in found
                for finding in judgement.findings
            )
        ),
        {rule: why for rule, why in not_judged.items() if rule not in judged},
        judged,
        tuple(sorted(too_short.difference(judged))),
    )


_OF_ALL_NODES = tuple(rule for rule in RULES if rule.id == "rank-imbalance")


def _of_all(results: Sequence[NodeResult]) -> RunView:
    """What is to be judged of nodes only where they are seen together."""
    part = beside(each.part for each in results)
    return RunView(
        statistics={},
        started_s=part.started_s,
        duration_s=part.duration_s,
        samples=min(each.part.samples for each in results),
        node_gpus={each.node or "": each.gpus for each in results},
    )
