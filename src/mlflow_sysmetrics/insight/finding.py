"""What a rule finds, what a rule is, and the judgement that all rules together give of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_sysmetrics.insight.run import RunView

Severity = Literal["critical", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""The worst first."""


class NotJudged(Exception):  # noqa: N818 - an answer of a rule, not an error
    """The rule lacks what it needs; the message says what."""


class TooShort(NotJudged):
    """The run has too few samples for the rule, or did not last long enough."""


@dataclass(frozen=True)
class Waste:
    """What was paid for and not used.

    Attributes:
        gpu_hours: Hours of GPUs.
        core_hours: Hours of CPU cores.
        gpus: The GPUs whose hours these are: those of one GPU count once, whoever reports them.
    """

    gpu_hours: float = 0.0
    core_hours: float = 0.0
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that was wrong with a run.

    Attributes:
        id: Of the rule; stable, such as `gpu-idle`.
        severity: `critical`, `warning` or `info`.
        title: One sentence with the figures that matter.
        evidence: Value by metric key.
        share: Of the run's time, from 0 to 1, in which it held.
        advice: One sentence that says what to do.
        waste: What was paid for and not used; None where that is not known, or nothing was.
        node: Where the run has several nodes.
        start_s: When it began to hold, seconds since the epoch.
        end_s: When it last held.
    """

    id: str
    severity: Severity
    title: str
    evidence: Mapping[str, float]
    advice: str
    share: float = 1.0
    waste: Waste | None = None
    node: str | None = None
    start_s: float | None = None
    end_s: float | None = None

    @property
    def is_warning(self) -> bool:
        """Whether it is a warning or worse."""
        return self.severity != "info"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: Stable.
        judge: Gives what it finds, or nothing.
            Raises `NotJudged` where it lacks what it needs.
        is_live: Whether it is also asked while the run goes on.
        is_of_host: Whether it is about the host: then it is said once a process, however many
            runs are open.
        is_of_tree: Whether it is about the process tree: then only the outermost of several runs
            that share the tree is judged.
    """

    id: str
    judge: Callable[[RunView], Finding | None]
    is_live: bool = False
    is_of_host: bool = False
    is_of_tree: bool = False


@dataclass(frozen=True)
class Judgement:
    """What all rules say of a run.

    Attributes:
        findings: The worst first.
        not_judged: Why a rule could not be judged, by its id.
        judged: Ids of the rules that could.
        too_short: Ids of the rules for which the run was too short.
    """

    findings: tuple[Finding, ...] = ()
    not_judged: Mapping[str, str] = field(default_factory=dict)
    judged: tuple[str, ...] = ()
    too_short: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Those that are warnings or worse."""
        return tuple(each for each in self.findings if each.is_warning)
