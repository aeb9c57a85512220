"""Looks at a run while it goes on: statistics, live findings, and the summary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.gpus import gpus_of
from mlflow_sysmetrics.insight.judging import is_of_host, judge, worst_first
from mlflow_sysmetrics.insight.live import LiveStatistics
from mlflow_sysmetrics.insight.part import together
from mlflow_sysmetrics.insight.run import RunView
from mlflow_sysmetrics.insight.summary import MIN_SAMPLES, part_of, summarize
from mlflow_sysmetrics.insight.texts import description, log_text, tag_text
from mlflow_sysmetrics.insight.whole import FINDINGS_TAG, STATISTICS_TAG, SUMMARY_TAG
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.sampling.observer import Notes, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_sysmetrics.insight.finding import Finding, Judgement
    from mlflow_sysmetrics.insight.part import Part
    from mlflow_sysmetrics.sampling.window import Readings
    from mlflow_sysmetrics.settings import Settings

DESCRIPTION_TAG = "mlflow.note.content"

PROVISIONAL = "provisional"
FINAL = "final"

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
    """

    run_id: str
    settings: Settings
    facts: Callable[[], Mapping[str, str]] = dict
    earlier: Callable[[], Earlier | None] = Earlier
    has_description: Callable[[], bool | None] = bool
    outer_run_id: str | None = None


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
        if self._statistics.samples < MIN_SAMPLES:
            return Notes()
        run = self._view()
        judgement = self._judge(run)
        if judgement is not None:
            _log(self._subject.run_id, self._new(judgement.warnings))
        notes = self._notes(run, judgement, FINAL)
        return replace(notes, tags={**notes.tags, **self._description(judgement)})

    def _look(self) -> Notes:
        """Ask the rules that are live; what is new is said at once."""
        found = self._judge(replace(self._view(), has_ended=False))
        new = self._new(found.warnings) if found is not None else []
        _log(self._subject.run_id, new)
        if not new or self._settings.node_id:
            return Notes()
        return Notes({FINDINGS_TAG: tag_text(worst_first(self._live.values()))})

    def _say_provisional(self) -> Notes:
        """What a run that is killed without warning leaves."""
        self._live_due_s = self._statistics.duration_s + _LIVE_INTERVAL_S
        if self._settings.has_findings:
            self._look()
        run = self._view()
        return self._notes(run, self._judge(run), PROVISIONAL)

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

    def _notes(self, run: RunView, judgement: Judgement | None, state: str) -> Notes:
        """Summary and findings; of one node of several neither, for they are of the whole run."""
        if self._settings.node_id:
            return Notes()
        tags = {}
        if judgement is not None and judgement.judged:
            tags[FINDINGS_TAG] = tag_text(judgement.findings, is_short=bool(judgement.too_short))
        earlier = self._subject.earlier()
        part = part_of(run, judgement, self._settings.summary)
        if earlier is not None and earlier.part is not None:
            part = together((earlier.part, part))
        elif earlier is None or earlier.is_any:
            began = datetime.fromtimestamp(self._epoch_s, tz=timezone.utc)
            state = f"{state} since {began:%Y-%m-%dT%H:%M:%SZ}"
        if not self._settings.has_summary:
            return Notes(tags)
        summary = summarize(part, run, judgement, self._settings.summary)
        if summary:
            if self._subject.outer_run_id is not None:
                state += f", within run {self._subject.outer_run_id}"
            tags[SUMMARY_TAG] = state
            tags[STATISTICS_TAG] = part.to_text()
        return Notes(tags, summary)

    def _description(self, judgement: Judgement | None) -> dict[str, str]:
        """The findings as the run's description, if that is wanted and it has none."""
        if self._settings.findings != "describe" or judgement is None or not judgement.judged:
            return {}
        if self._subject.has_description() is not False:
            return {}
        return {DESCRIPTION_TAG: description(judgement.findings)}

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
