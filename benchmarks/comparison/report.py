"""The table of the comparison, and what was compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from comparison.contenders import Contender
    from comparison.lab import Row


def table(rows: Sequence[Row], contenders: Sequence[Contender]) -> str:
    """The rows in Markdown, aligned for the eye."""
    header = ["", *(each.title for each in contenders)]
    return report.table(header, (_cells(row, contenders) for row in rows))


def _cells(row: Row, contenders: Sequence[Contender]) -> list[str]:
    medians, ratios = row.medians(), row.ratios()
    cells = [f"{row.title}{row.unit and f' ({row.unit})'}"]
    for each in contenders:
        if each.name not in medians:
            cells.append("-")
            continue
        cell = _short(medians[each.name])
        if row.ranges:
            cells.append(_with_range(row, each.name, cell))
            continue
        ratio = ratios.get(each.name)
        cells.append(
            cell if ratio is None or each.name == row.base else f"{cell} ({_short(ratio)}x)"
        )
    return cells


def _with_range(row: Row, name: str, cell: str) -> str:
    """Lowest and highest too; marked where it cannot be told from the base."""
    values = row.values[name]
    found = f"{cell} ({_short(min(values))}-{_short(max(values))})"
    same = row.base not in {None, name} and name not in row.told_apart()
    return f"{found} ~" if same else found


def _short(value: float) -> str:
    """As many decimals as say something."""
    digits = len(f"{abs(value):.0f}")
    return f"{value:.{max(0, 3 - digits)}f}"


def versions(contenders: Sequence[Contender]) -> dict[str, str]:
    """What is compared, by its column."""
    return {each.title: report.in_one_line(each.versions()) for each in contenders}


def as_json(
    rows: Sequence[Row], where: Mapping[str, Any], what: Mapping[str, str]
) -> dict[str, Any]:
    """All that was measured."""
    return {
        "machine": dict(where),
        "versions": dict(what),
        "rows": [
            asdict(row)
            | {"medians": row.medians(), "ratios": row.ratios()}
            | {"told_apart": sorted(row.told_apart())}
            for row in rows
        ],
    }
