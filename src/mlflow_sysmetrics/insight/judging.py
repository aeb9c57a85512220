"""Asks all rules about a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.finding import SEVERITIES, Finding, Judgement, NotJudged, TooShort
from mlflow_sysmetrics.insight.rules import RULES
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.settings import matches_any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_sysmetrics.insight.finding import Rule
    from mlflow_sysmetrics.insight.run import RunView

_SHARED_TREE = "another run of this process answers for the process tree"


def judge(run: RunView, exclude: tuple[str, ...] = (), rules: Sequence[Rule] = RULES) -> Judgement:
    """Ask every rule; of a run that goes on only those that are live.

    Args:
        run: The run.
        exclude: Globs of the rules to leave out, by id.
        rules: Which there are.
    """
    findings: list[Finding] = []
    not_judged: dict[str, str] = {}
    judged = []
    too_short = []
    for rule in rules:
        if matches_any(rule.id, exclude) or not (run.has_ended or rule.is_live):
            continue
        if rule.is_of_tree and not run.is_outermost:
            not_judged[rule.id] = _SHARED_TREE
            continue
        try:
            finding = rule.judge(run)
        except NotJudged as reason:
            not_judged[rule.id] = str(reason)
            if isinstance(reason, TooShort):
                too_short.append(rule.id)
            continue
        except Exception as error:  # noqa: BLE001 - each part fails alone
            logger.debug("rule %s: %r", rule.id, error)
            not_judged[rule.id] = f"the rule failed: {error!r}"
            continue
        judged.append(rule.id)
        if finding is not None:
            findings.append(finding)
    return Judgement(tuple(worst_first(findings)), not_judged, tuple(judged), tuple(too_short))


def is_of_host(rule_id: str) -> bool:
    """Whether a rule is about the host, and so about all runs on it alike."""
    return any(rule.id == rule_id and rule.is_of_host for rule in RULES)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """In the order in which they are shown."""
    return sorted(findings, key=_order)


def _order(finding: Finding) -> tuple[int, float, float, str]:
    waste = finding.waste
    gpu_hours = waste.gpu_hours if waste is not None else 0.0
    return (SEVERITIES.index(finding.severity), -gpu_hours, -finding.share, finding.id)
