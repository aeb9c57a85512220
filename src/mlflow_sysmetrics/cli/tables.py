"""Plain-text tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


def text_table(
    rows: Iterable[Sequence[str]], indent: str = "", figures: Collection[int] = ()
) -> str:
    """Columns as wide as their widest cell, two spaces apart; empty for no rows.

    Args:
        rows: The cells.
        indent: Prefix of each line.
        figures: Numbers of the right-aligned columns.
    """
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if column in figures else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
    return "\n".join(indent + line.rstrip() for line in lines)
