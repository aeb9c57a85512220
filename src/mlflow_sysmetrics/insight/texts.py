"""Findings as text: for a cell of the runs table, for the log, for the run's description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.log.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_sysmetrics.insight.finding import Finding

NOTHING = "none"
"""The tag of a run of which rules were asked and found nothing."""

TOO_SHORT = "too short for most"
"""Said of nothing found where the run was too short for the rules on means and trends."""


def tag_text(findings: Sequence[Finding], *, is_short: bool = False, since: str = "") -> str:
    """For the tag `sys.findings`: `!gpu-idle, cpu-bound-input; info: memory-overprovisioned`.

    Args:
        findings: The worst first.
        is_short: Whether the run was too short for some rules.
        since: When that part of a resumed run began that they are of; empty for all of a run.
    """
    warnings = _ids(each for each in findings if each.is_warning)
    remarks = _ids(each for each in findings if not each.is_warning)
    parts = [", ".join(warnings), "info: " + ", ".join(remarks) if remarks else ""]
    found = "; ".join(part for part in parts if part) or NOTHING
    said = [_of_part(since)] if since else []
    said += [TOO_SHORT] if found == NOTHING and is_short else []
    return clean(f"{found} ({', '.join(said)})" if said else found, MAX_TAG_LENGTH)


def _of_part(since: str) -> str:
    return f"of the part since {since}"


def _ids(findings: Iterable[Finding]) -> list[str]:
    """Each id once, with the nodes that it was found on."""
    nodes: dict[str, list[str]] = {}
    for each in findings:
        shown = f"!{each.id}" if each.severity == "critical" else each.id
        nodes.setdefault(shown, []).extend([each.node] if each.node else [])
    return [f"{shown} ({', '.join(on)})" if on else shown for shown, on in nodes.items()]


def log_text(findings: Iterable[Finding]) -> str:
    """One line."""
    return "; ".join(
        f"{_sentence(each.title)} {_sentence(each.advice)} [{each.id}]" for each in findings
    )


def description(findings: Sequence[Finding], *, is_short: bool = False, since: str = "") -> str:
    """Markdown for the run's description; see `tag_text`."""
    text = "**System metrics**"
    if since:
        text += f" {_of_part(since)}"
    if not findings:
        text += f": {_NOTHING_IN_SHORT if is_short else 'nothing to remark.'}"
    for each in findings:
        where = f" on {each.node}" if each.node else ""
        said = f"{_sentence(each.title)} {_sentence(each.advice)}"
        longer = f"{text}\n\n- **{each.severity}** `{each.id}`{where}: {clean(said)}"
        if len(longer.encode()) > MAX_TAG_LENGTH:
            break
        text = longer
    return text


_NOTHING_IN_SHORT = "nothing found, but the run was too short for most rules."


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
