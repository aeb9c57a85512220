"""From a run as its store has it to a report."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog import PREFIX
from mlflow_sysmetrics.insight.finding import Judgement
from mlflow_sysmetrics.insight.report.model import MADE_HERE, RunReport
from mlflow_sysmetrics.insight.stored import views_of
from mlflow_sysmetrics.insight.whole import FINDINGS_TAG, RECOMPUTED, SUMMARY_TAG, answers
from mlflow_sysmetrics.sampling.sink import SUMMARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow.entities import Run

    from mlflow_sysmetrics.insight.run import RunView
    from mlflow_sysmetrics.insight.stored import History
    from mlflow_sysmetrics.settings import Settings

_FINAL = ("final", RECOMPUTED)
_NODES_TAG = "sys.nodes"
_ENDED = frozenset(("FINISHED", "FAILED", "KILLED"))

NO_METRICS = (
    "the run has no system metrics: set MLFLOW_RUN_CONTEXT_PROVIDER=sysmetrics,sysmonitor where it "
    "is started, and start it again"
)


class NoSystemMetrics(ValueError):  # noqa: N818 - it says what is missing
    """The run has no system metrics; the message says how to get them."""

    def __init__(self) -> None:
        super().__init__(NO_METRICS)


def make_report(
    run: Run,
    experiment: str,
    histories: Mapping[str | None, Mapping[str, History]],
    settings: Settings,
) -> RunReport:
    """What there is to say of a run.

    Args:
        run: As the store has it.
        experiment: Name of its experiment.
        histories: Its system metrics, for each node.
        settings: Which findings are left out.

    Raises:
        NoSystemMetrics: It has none.
    """
    views = views_of(run, histories)
    if not any(view.samples for view in views):
        raise NoSystemMetrics
    found = answers(views, replace(settings, findings="on", summary=()))
    tags = dict(run.data.tags)
    own = _own_summary(run)
    info = run.info
    is_open = info.status not in _ENDED
    ended_s = max(view.ended_s for view in views)
    started_s = info.start_time / 1000 if info.start_time else views[0].started_s
    if not is_open and info.end_time:
        ended_s = info.end_time / 1000
    return RunReport(
        run_id=info.run_id,
        name=info.run_name or "",
        experiment=experiment,
        status=info.status,
        is_open=is_open,
        started_s=started_s,
        duration_s=max(ended_s - started_s, 0.0),
        silent_s=time.time() - ended_s if is_open else None,
        facts=_facts(tags),
        hosts=_hosts(tags.get(_NODES_TAG, ""), views),
        summary=own or _named(found.summary),
        summary_state=tags[SUMMARY_TAG] if own else MADE_HERE,
        findings_tag=tags.get(FINDINGS_TAG, ""),
        judgement=found.judgement or Judgement(),
        views=tuple(views),
        histories=tuple(histories.values()),
    )


def _own_summary(run: Run) -> dict[str, float]:
    """The run's own summary; empty where it has no final one."""
    if not run.data.tags.get(SUMMARY_TAG, "").startswith(_FINAL):
        return {}
    begin = PREFIX + SUMMARY_PREFIX
    return {
        key.removeprefix(begin): value
        for key, value in run.data.metrics.items()
        if key.startswith(begin)
    }


def _named(summary: Mapping[str, float]) -> dict[str, float]:
    return {key.removeprefix(SUMMARY_PREFIX): value for key, value in summary.items()}


def _facts(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in sorted(tags.items())
        if key.startswith("sys.") and key != FINDINGS_TAG
    }


def _hosts(text: str, views: Sequence[RunView]) -> dict[str, str]:
    """Names of the nodes' hosts, from the tag that lists them."""
    try:
        content = json.loads(text or "{}")
        named = {f"node_{number}": str(node["host"]) for number, node in content.items()}
    except (ValueError, TypeError, AttributeError, KeyError):
        return {}
    return {view.node: named[view.node] for view in views if view.node in named}
