"""Looks at a run while it goes on: statistics, live findings, and the summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.gpus import gpus_of
from mlflow_sysmetrics.insight.judging import is_of_host, judge, worst_first
from mlflow_sysmetrics.insight.last_word import DESCRIPTION_TAG
from mlflow_sysmetrics.insight.live import LiveStatistics
from mlflow_sysmetrics.insight.node_tag import NodeTag, key_of
from mlflow_sysmetrics.insight.part import together
from mlflow_sysmetrics.insight.run import RunView
from mlflow_sysmetrics.insight.summary import MIN_SAMPLES
from mlflow_sysmetrics.insight.texts import description, log_text, tag_text
from mlflow_sysmetrics.insight.whole import (
    FINAL,
    FINDINGS_TAG,
    PROVISIONAL,
    answers_of,
    result_of,
)
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.sampling.observer import Notes, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_sysmetrics.insight.finding import Finding, Judgement
    from mlflow_sysmetrics.insight.part import Part
    from mlflow_sysmetrics.insight.whole import NodeResult
    from mlflow_sysmetrics.sampling.window import Readings
    from mlflow_sysmetrics.settings import Settings

LEADER = "node_0"
"""Name of the node that a job's run is opened on."""

_said_of_host: set[str] = set()
"""Ids of findings of the host that this process has said: it is the same host for all its runs."""

_LIVE_INTERVAL_S = 60.0
_FIRST_PROVISIONAL_S = 600.0


@dataclass(frozen=True)
class Earlier:
    """What is known of the parts of a run that another opening of it has sampled.

    Attributes:
        is_any: Whether there are such parts.
        part: What they were; None where that is not known.
    """

    is_any: bool = False
    part: Part | None = None


@dataclass(frozen=True)
class Subject:
    """The run that is looked at.

    Attributes:
        run_id: Its id.
        settings: In force for it.
        facts: Gives the host's tags that are known by now; must not wait.
        earlier: Gives its earlier parts; None while they are not known. Must not wait.
        has_description: Tells whether the user has described it; None where that is not known.
            Asked only where the findings are to be the description.
        outer_run_id: The run that was open before in this process, and samples the same process
            tree; None where there is none.
        nodes: How many nodes the run's job has; 1 where that is not known.
    """

    run_id: str
    settings: Settings
    facts: Callable[[], Mapping[str, str]] = dict
    earlier: Callable[[], Earlier | None] = Earlier
    has_description: Callable[[], bool | None] = bool
    outer_run_id: str | None = None
    nodes: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this is the node that the run was opened on."""
        return self.settings.node_id == LEADER


class RunObserver(Observer):
    """See `Observer`.

    Args:
        subject: The run.
        opened_s: When it opened, on the host's clock.
        epoch_s: The same in seconds since the epoch.
    """

    def __init__(self, subject: Subject, opened_s: float, epoch_s: float) -> None:
        self._subject = subject
        self._settings = subject.settings
        self._epoch_s = epoch_s
        self._statistics = LiveStatistics(opened_s, epoch_s, subject.settings.sampling_interval_s)
        self._live_due_s = _LIVE_INTERVAL_S
        self._provisional_due_s = _FIRST_PROVISIONAL_S
        self._live: dict[str, Finding] = {}

    def take(self, sample: Sequence[Readings]) -> Notes:
        """See `Observer`."""
        self._statistics.add(sample)
        if self._statistics.samples == MIN_SAMPLES:
            self._subject.facts()  # so that they are known when they are needed
            if self._is_node and self._since():  # what it said before was not its last word
                return self._say(self._result(self._view()), PROVISIONAL)
        lasted_s = self._statistics.duration_s
        if lasted_s >= self._provisional_due_s:
            while self._provisional_due_s <= lasted_s:
                self._provisional_due_s *= 2
            return self._say_provisional()
        if lasted_s >= self._live_due_s and self._settings.has_findings:
            self._live_due_s = lasted_s + _LIVE_INTERVAL_S
            return self._look()
        return Notes()

    def close(self) -> Notes:
        """See `Observer`."""
        if self._statistics.samples < MIN_SAMPLES and not self._is_node:
            return Notes()
        result = self._result(self._view())
        if result.judgement is not None:
            _log(self._subject.run_id, self._new(result.judgement.warnings))
        notes = self._say(result, FINAL)
        return replace(notes, tags={**notes.tags, **self._description(result)})

    @property
    def _is_node(self) -> bool:
        """Whether this is one of several nodes, and it is known how many they are."""
        return bool(self._settings.node_id) and self._subject.nodes > 1

    def _look(self) -> Notes:
        """Ask the rules that are live; what is new is said at once."""
        found = self._judge(replace(self._view(), has_ended=False))
        new = self._new(found.warnings) if found is not None else []
        _log(self._subject.run_id, new)
        if not new or (self._settings.node_id and not self._is_node):
            return Notes()
        if self._is_node and not self._subject.is_leader:
            return self._say(self._result(self._view()), PROVISIONAL)
        node = self._settings.node_id
        live = worst_first(replace(each, node=node) for each in self._live.values())
        return Notes({FINDINGS_TAG: tag_text(live)})

    def _say_provisional(self) -> Notes:
        """What a run that is killed without warning leaves."""
        self._live_due_s = self._statistics.duration_s + _LIVE_INTERVAL_S
        live = self._look() if self._settings.has_findings else Notes()
        notes = self._say(self._result(self._view()), PROVISIONAL)
        return replace(notes, tags={**live.tags, **notes.tags})

    def _judge(self, run: RunView) -> Judgement | None:
        if not self._settings.has_findings:
            return None
        return judge(run, self._settings.findings_exclude)

    def _new(self, warnings: Sequence[Finding]) -> list[Finding]:
        """Those that have not been said of this run; of the host, not in this process."""
        new = [
            each
            for each in warnings
            if each.id not in self._live and not (is_of_host(each.id) and each.id in _said_of_host)
        ]
        self._live.update((each.id, each) for each in warnings)
        _said_of_host.update(each.id for each in warnings if is_of_host(each.id))
        return new

    def _result(self, run: RunView) -> NodeResult:
        """What all parts of the run were, and what the rules say of this one."""
        result = result_of(run, self._settings)
        earlier = self._subject.earlier()
        if earlier is not None and earlier.part is not None:
            result = replace(result, part=together((earlier.part, result.part)))
        return replace(result, since=self._since())

    def _since(self) -> str:
        """When this part of a run began that has earlier ones, as far as is known; else empty."""
        earlier = self._subject.earlier()
        if earlier is not None and not earlier.is_any:
            return ""
        return f"{datetime.fromtimestamp(self._epoch_s, tz=timezone.utc):%Y-%m-%dT%H:%M:%SZ}"

    def _say(self, result: NodeResult, state: str) -> Notes:
        """Summary and findings; one node of several tells in a tag what the run's are made of."""
        earlier = self._subject.earlier()
        if result.since and (earlier is None or earlier.part is None):
            state = f"{state} since {result.since}"
        if self._is_node:
            tag = NodeTag(state, self._subject.nodes, result)
            return Notes({key_of(str(result.node)): tag.to_text()})
        if self._settings.node_id:
            return Notes()
        if self._subject.outer_run_id is not None:
            state += f", within run {self._subject.outer_run_id}"
        said = answers_of([result], self._settings, state)
        return Notes(said.tags, said.summary)

    def _description(self, result: NodeResult) -> dict[str, str]:
        """The findings as the run's description, if that is wanted and it has none."""
        judgement = result.judgement
        if self._settings.findings != "describe" or judgement is None or not judgement.judged:
            return {}
        if self._settings.node_id or self._subject.has_description() is not False:
            return {}
        is_short = bool(judgement.too_short)
        said = description(judgement.findings, is_short=is_short, since=result.since)
        return {DESCRIPTION_TAG: said}

    def _view(self) -> RunView:
        statistics, facts = self._statistics.statistics(), self._subject.facts()
        return RunView(
            statistics=statistics,
            started_s=self._epoch_s,
            duration_s=self._statistics.duration_s,
            samples=self._statistics.samples,
            largest_gap_s=self._statistics.largest_gap_s,
            interval_s=self._settings.sampling_interval_s,
            facts=facts,
            gpus=gpus_of(statistics, facts),
            node=self._settings.node_id,
            is_outermost=self._subject.outer_run_id is None,
        )


def _log(run_id: str, findings: Sequence[Finding]) -> None:
    if findings:
        logger.warning("run %s: %s", run_id, log_text(findings))
