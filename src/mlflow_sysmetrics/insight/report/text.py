"""A report as text for a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from mlflow_sysmetrics.insight.report.facts import main_facts
from mlflow_sysmetrics.insight.report.model import wasted
from mlflow_sysmetrics.insight.report.words import duration, is_share, label, quantity, sentence
from mlflow_sysmetrics.log.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow_sysmetrics.insight.finding import Finding
    from mlflow_sysmetrics.insight.report.model import RunReport

WIDTH = 100
_INDENT = "  "
_NAME_WIDTH = 12
_BAR_WIDTH = 20
_BLOCKS = " ▏▎▍▌▋▊▉█"
_COLOURS = {
    "critical": "red",
    "warning": "yellow",
    "info": "cyan",
    "none": "green",
    "unknown": None,
}


def text_of(report: RunReport, width: int = WIDTH) -> str:
    """The report; its colours are taken out by `click.echo` where it prints to no terminal.

    Args:
        report: What it says.
        width: Columns of the terminal.
    """
    return click.unstyle(styled(report, width))


def styled(report: RunReport, width: int = WIDTH) -> str:
    """The same, in colours."""
    return "\n".join(_Text(report, width).lines()) + "\n"


class _Text:
    """Writes the report line by line."""

    def __init__(self, report: RunReport, width: int) -> None:
        self._report = report
        self._width = max(width, 40)

    def lines(self) -> Iterator[str]:
        report = self._report
        colour = _COLOURS[report.worst]
        for line in self._wrapped(report.verdict, ""):
            yield click.style(line, fg=colour, bold=True)
        title = " · ".join(each for each in (report.name, report.experiment, report.run_id) if each)
        yield from (click.style(each, dim=True) for each in self._wrapped(title, ""))
        for each in report.judgement.findings:
            yield ""
            yield from self._finding(each)
        yield from self._heading("Facts")
        yield from self._rows(main_facts(report))
        if report.summary:
            yield from self._heading("Summary")
            yield from self._summary()
        if report.judgement.not_judged:
            yield from self._heading("Not judged")
            for reason, rules in _by_reason(report):
                yield from self._wrapped(f"{', '.join(rules)}: {sentence(reason)}", _INDENT)
        yield from self._heading("How it was made")
        for said in report.basis:
            yield from self._wrapped(said, _INDENT)

    def _finding(self, finding: Finding) -> Iterator[str]:
        mark = click.style(finding.severity.upper(), fg=_COLOURS[finding.severity], bold=True)
        where = f" on {clean(finding.node)}" if finding.node else ""
        yield f"{mark}  {click.style(finding.id + where, dim=True)}"
        yield from (click.style(each, bold=True) for each in self._wrapped(finding.title, _INDENT))
        evidence = ", ".join(
            f"{key} {quantity(key, value)}" for key, value in finding.evidence.items()
        )
        rows = [("Evidence", evidence)]
        if finding.start_s is not None and finding.end_s is not None:
            held = f"{finding.share:.0%} of the time".replace("%", " %")
            begun = duration(max(finding.start_s - self._report.started_s, 0))
            rows.append(("Held", f"{held}, from {begun} on"))
        if finding.waste is not None and (said := wasted(finding.waste)):
            rows.append(("Not used", said))
        rows.append(("Do", finding.advice))
        yield from self._rows(rows)

    def _heading(self, text: str) -> Iterator[str]:
        yield ""
        yield click.style(text, bold=True)

    def _rows(self, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
        for name, text in rows:
            head = f"{_INDENT}{name:<{_NAME_WIDTH}}"
            yield from self._wrapped(text, head, " " * len(head))

    def _summary(self) -> Iterator[str]:
        summary = self._report.summary
        names = {key: clean(label(key)) for key in summary}
        values = {key: quantity(key, value) for key, value in summary.items()}
        of_names = max(map(len, names.values()))
        of_values = max(map(len, values.values()))
        for key, value in summary.items():
            line = f"{_INDENT}{names[key]:<{of_names}}  {values[key]:>{of_values}}"
            if is_share(key) and len(line) + 2 + _BAR_WIDTH <= self._width:
                line += f"  {bar(value)}"
            yield line.rstrip()

    def _wrapped(self, text: str, head: str, hanging: str | None = None) -> Iterator[str]:
        yield from textwrap.wrap(
            clean(text, len(text.encode()) + 1),
            self._width,
            initial_indent=head,
            subsequent_indent=head if hanging is None else hanging,
            break_on_hyphens=False,
        )


def bar(percent: float, width: int = _BAR_WIDTH) -> str:
    """A bar of block characters, as long as the percentage is."""
    eighths = round(min(max(percent, 0.0), 100.0) / 100 * width * 8)
    whole, rest = divmod(eighths, 8)
    filled = _BLOCKS[-1] * whole + (_BLOCKS[rest] if rest else "")
    return f"{filled:<{width}}▏"


def _by_reason(report: RunReport) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for rule, reason in report.judgement.not_judged.items():
        found.setdefault(reason, []).append(rule)
    return list(found.items())
