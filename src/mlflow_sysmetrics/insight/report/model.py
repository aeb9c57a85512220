"""What a report says of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.insight.finding import SEVERITIES
from mlflow_sysmetrics.insight.report.words import counted, duration, number, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.insight.finding import Finding, Judgement, Waste
    from mlflow_sysmetrics.insight.run import RunView
    from mlflow_sysmetrics.insight.stored import History

_NAMES = {"critical": "critical finding", "warning": "warning", "info": "remark"}

_MANY_INTERVALS = 3
"""A gap in sampling is worth a word from so many intervals on."""


@dataclass(frozen=True)
class RunReport:
    """What a report says of a run, however it is shown.

    Attributes:
        run_id: Of the run.
        name: Its name; may be empty.
        experiment: Name of its experiment.
        status: As the store has it, such as `FINISHED`.
        is_open: Whether it goes on.
        started_s: When it began, seconds since the epoch.
        duration_s: How long it lasted, or has lasted so far.
        silent_s: How long ago an open run logged its last value; None of one that has ended.
        facts: The tags that say what the host is, by key.
        hosts: Name of each node's host, by the node's name, where that is known.
        summary: Values by key below `system/summary/`.
        summary_state: Who made the summary: the tag `sysmetrics.summary`, or `recomputed`.
        findings_tag: What the run's own tag says; empty where it has none.
        judgement: What the rules say of the stored points.
        views: What each node did.
        histories: The stored points, for each node as in `views`.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    is_open: bool
    started_s: float
    duration_s: float
    silent_s: float | None
    facts: Mapping[str, str]
    hosts: Mapping[str, str]
    summary: Mapping[str, float]
    summary_state: str
    findings_tag: str
    judgement: Judgement
    views: tuple[RunView, ...]
    histories: tuple[Mapping[str, History], ...]

    @property
    def worst(self) -> str:
        """Severity of the worst finding; `none`, or `unknown` where no rule could be judged."""
        if self.judgement.findings:
            return self.judgement.findings[0].severity
        return "none" if self.judgement.judged else "unknown"

    @property
    def verdict(self) -> str:
        """The result in a sentence or two."""
        findings = self.judgement.findings
        so_far = " so far" if self.is_open else ""
        if not self.judgement.judged:
            return f"Nothing could be judged{so_far}."
        if not findings:
            if self.judgement.too_short:
                return f"Too short for most rules; the others found nothing{so_far}."
            judged, rules = len(self.judgement.judged), self._rules
            return f"No findings{so_far}: {judged} of {rules} rules could be judged."
        counts = [
            counted(found, _NAMES[severity])
            for severity in SEVERITIES
            if (found := sum(each.severity == severity for each in findings))
        ]
        said = sentence(f"{', '.join(counts)}{so_far}: {what_and_where(findings[0])}")
        return f"{said} {self._wasted}".rstrip()

    @property
    def state(self) -> str:
        """The run's status in words."""
        if not self.is_open:
            return self.status.lower()
        if self.silent_s is not None and self.silent_s >= _SILENT_S:
            return f"still running by its status, but silent for {duration(self.silent_s)}"
        return "still running"

    @property
    def basis(self) -> list[str]:
        """How the report was made, in sentences."""
        view = max(self.views, key=lambda each: each.samples)
        nodes = f" on each of {len(self.views)} nodes" if len(self.views) > 1 else ""
        judged = (
            f"Judged from {counted(view.samples, 'point')} a metric{nodes}, logged every "
            f"{duration(view.interval_s)}"
        )
        if view.largest_gap_s > _MANY_INTERVALS * view.interval_s:
            judged += f"; the longest gap is {duration(view.largest_gap_s)}"
        said = [f"{judged}."]
        if self.summary_state != MADE_HERE:
            said.append(f"The summary is the run's own ({self.summary_state}), from all samples.")
        else:
            said.append(
                "The summary was made from the stored points, for the run has no final one."
            )
        return said

    @property
    def _rules(self) -> int:
        return len(self.judgement.judged) + len(self.judgement.not_judged)

    @property
    def _wasted(self) -> str:
        wasted, hours = self.summary.get("gpu_hours_wasted"), self.summary.get("gpu_hours")
        if not wasted:
            return ""
        of = f" of {number(hours)}" if hours else ""
        return f"{number(wasted)}{of} GPU-hours were not used."

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "experiment": self.experiment,
            "status": self.status,
            "is_open": self.is_open,
            "started_s": self.started_s,
            "duration_s": self.duration_s,
            "verdict": self.verdict,
            "facts": dict(self.facts),
            "summary": dict(self.summary),
            "findings": [finding_as_dict(each) for each in self.judgement.findings],
            "judged": list(self.judgement.judged),
            "not_judged": dict(self.judgement.not_judged),
            "basis": self.basis,
        }


MADE_HERE = "made here"
"""State of a summary that the report made itself."""

_SILENT_S = 600.0


def finding_as_dict(finding: Finding) -> dict[str, Any]:
    """For JSON."""
    return {
        "id": finding.id,
        "severity": finding.severity,
        "title": finding.title,
        "evidence": dict(finding.evidence),
        "share": round(finding.share, 3),
        "advice": finding.advice,
        "waste": asdict(finding.waste) if finding.waste is not None else None,
        "node": finding.node,
        "start_s": finding.start_s,
        "end_s": finding.end_s,
    }


def what_and_where(finding: Finding) -> str:
    """The title, and the node that it is about."""
    is_told = finding.node is None or finding.node in finding.title
    return finding.title if is_told else f"{finding.title} ({finding.node})"


def wasted(waste: Waste) -> str:
    """What was paid for and not used, in words; empty for nothing."""
    parts = [
        f"{number(hours)} {unit}"
        for hours, unit in ((waste.gpu_hours, "GPU-hours"), (waste.core_hours, "core-hours"))
        if hours
    ]
    return ", ".join(parts)
