"""Single numbers out of long texts of the kernel, found without parsing the rest."""

from __future__ import annotations

import re
from functools import cache


def find_number(text: str, before: str, after: str = "", most: int = 1 << 63) -> int | None:
    """The number of the first line such as `<before>123<after>` that can be read.

    Args:
        text: All lines.
        before: What the line begins with, up to blanks before the number.
        after: What follows the number up to the line's end.
        most: A number from this on is none.

    Returns:
        None without such a line.
    """
    for match in _pattern(before, after).finditer(text):
        number = int(match[1])
        begins_line = match.start() == 0 or text[match.start() - 1] == "\n"
        if begins_line and number < most:
            return number
    return None


@cache
def _pattern(before: str, after: str) -> re.Pattern[str]:
    # A `^` would be tried at each character; plain text is looked for as fast as memory is read.
    return re.compile(rf"{re.escape(before)} +([0-9]{{1,20}}){re.escape(after)}$", re.MULTILINE)
