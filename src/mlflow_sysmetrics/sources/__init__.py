"""Bytes, ctypes or command output -> typed values.

`read_*` touches the host and raises `Unavailable` where there is nothing to read; `parse_*` is
pure and raises `ParseError` for text that is not what it parses.
"""

from __future__ import annotations

MOST = 1 << 63
"""No counter or size comes near this; a negative number printed without its sign is above it."""


class ParseError(ValueError):
    """Text that is not in the format a parser knows; the message quotes its beginning."""

    def __init__(self, what: str, text: str) -> None:
        super().__init__(f"not {what}: {text[:80]!r}")
