"""Regenerate the tables of the README and of docs/.

    python3 scripts/generate_tables.py

Each table stands between the comments `<!-- NAME:begin -->` and `<!-- NAME:end -->`. Those of the
reference are made from the catalog and the settings. `result-NAME` is what a benchmark printed,
kept as it is:

    python benchmarks/NAME.py > benchmarks/results/NAME.txt

`example-NAME` is the code of `docs/development/NAME.py`.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import TYPE_CHECKING

from _environment import ROOT

sys.path.insert(0, str(ROOT / "src"))  # the checkout's, and not what an environment has installed

from findings_corpus import read_corpus, scores
from mlflow_sysmetrics.catalog import (
    ACCELERATOR_METRICS,
    CONTAINER_METRICS,
    GPU_METRICS,
    HOST_METRICS,
    PREFIX,
    PRESSURE_METRICS,
    PROCESS_METRICS,
    SUMMARY,
    TAGS,
)
from mlflow_sysmetrics.insight.rules import RULES
from mlflow_sysmetrics.insight.thresholds import rows as threshold_rows
from mlflow_sysmetrics.sampling.sink import SUMMARY_PREFIX
from mlflow_sysmetrics.settings import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mlflow_sysmetrics.catalog import Metric

EXAMPLES = ROOT / "docs" / "development"
RESULTS = ROOT / "benchmarks" / "results"

_METRICS = {
    "metrics-host": HOST_METRICS,
    "metrics-process": PROCESS_METRICS,
    "metrics-container": CONTAINER_METRICS,
    "metrics-pressure": PRESSURE_METRICS,
    "metrics-gpu": GPU_METRICS,
    "metrics-accelerator": ACCELERATOR_METRICS,
}

_TELLING = (
    "| CPU a sample, 1 child",
    "| CPU a sample, 64 children",
    "| HTTP requests a sample",
    "| open + close, file store (ms",
    "| open + close, SQLite (ms",
    "| open + close, HTTP (ms",
    "| end_run, server gone",
    "| samples lost",
)
"""How the rows of the comparison begin that the README has."""

_NOT_KEPT = "*Figures of this version have not been kept yet.*\n"

_BLOCK = re.compile(r"(<!-- (\S+):begin -->\n)(.*?)(<!-- \2:end -->)", re.DOTALL)


def documents() -> list[Path]:
    """The files that may have tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def tables() -> dict[str, str]:
    """The reference tables in Markdown, by name."""
    metrics = {name: _metrics(group) for name, group in _METRICS.items()}
    return {
        "tags": _tags(),
        "summary": _summary(),
        "thresholds": _thresholds(),
        "accuracy": _accuracy(),
        "settings": _settings(),
        "costs": costs(),
        **metrics,
    }


def places(text: str) -> list[str]:
    """Names of the tables that a document has a place for."""
    return [block[2] for block in _BLOCK.finditer(text)]


def with_tables(text: str) -> str:
    """A document with all its tables as they should be.

    Raises:
        KeyError: It has a place for a table that there is not.
    """
    made = tables()

    def filled(block: re.Match[str]) -> str:
        kind, _, name = block[2].partition("-")
        make = {"result": result, "example": example}.get(kind)
        table = make(name) if make is not None else made[block[2]]
        return f"{block[1]}{table}{block[4]}"

    return _BLOCK.sub(filled, text)


def example(name: str) -> str:
    """The code of an example."""
    return f"```python\n{(EXAMPLES / f'{name}.py').read_text(encoding='utf-8')}```\n"


def result(name: str) -> str:
    """What a benchmark printed: its table as one, what it says besides as it stands."""
    printed = _printed(name)
    if not printed:
        return _NOT_KEPT
    parts = printed.strip().split("\n\n")
    return "\n".join(
        f"{part}\n" if part.startswith("|") else f"```text\n{part}\n```\n" for part in parts
    )


def costs() -> str:
    """The rows of the comparison that say most."""
    header, rule, *rows = _printed("compare").partition("\n\n")[0].splitlines() or ["", ""]
    chosen = [row for row in rows if row.startswith(_TELLING)]
    return "".join(f"{line}\n" for line in (header, rule, *chosen)) if chosen else _NOT_KEPT


def _printed(name: str) -> str:
    try:
        return (RESULTS / f"{name}.txt").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _tags() -> str:
    rows = (
        (
            f"`{tag.key.format(index='<n>')}`",
            tag.meaning,
            f"`{tag.example}`",
            tag.platforms,
            tag.source,
            _absence(tag.absent),
        )
        for tag in TAGS
    )
    return _markdown(("Tag", "Meaning", "Example", "Platform", "Source", "Absent"), rows)


def _metrics(group: Iterable[Metric]) -> str:
    rows = (
        (
            f"`{PREFIX}{metric.key.format(index='<i>', instance='<j>')}`",
            metric.unit,
            metric.meaning,
            metric.aggregate.value,
            metric.platforms,
            _code(metric.source),
            _absence(metric.absent),
        )
        for metric in group
    )
    header = ("Metric", "Unit", "Meaning", "A point is the", "Platform", "Source", "Absent")
    return _markdown(header, rows)


def _thresholds() -> str:
    cells = (
        (row.rules, f"{row.value:g} {row.unit}".strip(), row.meaning) for row in threshold_rows()
    )
    return _markdown(("Findings", "Threshold", "Of what"), cells)


@cache
def _accuracy() -> str:
    """How often each rule is right over the corpus."""
    corpus = read_corpus()
    found = scores(corpus)
    cells = [
        (
            f"`{rule.id}`",
            str(len(found[rule.id].right)),
            str(len(found[rule.id].wrong)),
            str(len(found[rule.id].missed)),
            _share(found[rule.id].precision),
            _share(found[rule.id].recall),
        )
        for rule in RULES
    ]
    healthy = sum(not (each.findings or each.allowed) for each in corpus)
    header = ("Finding", "Right", "Wrong", "Missed", "Precision", "Recall")
    return f"{len(corpus)} runs, {healthy} of them healthy.\n\n{_markdown(header, cells)}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _summary() -> str:
    rows = (
        (
            f"`{PREFIX}{SUMMARY_PREFIX}{each.name}`",
            each.unit,
            each.meaning,
            _absence(each.absent),
        )
        for each in SUMMARY
    )
    return _markdown(("Key", "Unit", "Meaning", "Absent"), rows)


def _settings() -> str:
    rows = (
        (f"`{variable.name}`", _default(variable.default), variable.meaning, variable.allowed)
        for variable in VARIABLES
    )
    return _markdown(("Variable", "Default", "Meaning", "Allowed"), rows)


def _absence(absent: str) -> str:
    return "" if absent == "never" else absent


def _code(source: str) -> str:
    """A path with `<pid>` in it must not be taken for HTML."""
    return re.sub(r"\S*<\w+>[^\s;,]*", lambda path: f"`{path[0]}`", source)


def _default(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(_escaped(cell) for cell in line)} |\n" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")


def main() -> None:
    """Bring every document up to date."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        if (anew := with_tables(text)) != text:
            document.write_text(anew, encoding="utf-8")
            print(document.relative_to(ROOT))


if __name__ == "__main__":
    main()
