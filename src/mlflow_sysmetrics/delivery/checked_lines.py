"""Lines of JSON that carry a checksum each, so that what a crash has torn is known and skipped.

`5d1f0a8c {"sent_to": 13}`: the CRC-32 of the rest of the line, in hexadecimal, then the rest.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_BYTES = 2**16


def checked_line(record: object) -> bytes:
    """One line, with its end."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def read_checked_lines(
    read: Callable[[int, int], bytes], start: int = 0
) -> Iterator[tuple[int, Any]]:
    """All whole lines of a file from an offset on: where each ends, and what it says.

    Args:
        read: Gives some of the file: from an offset on, at most so many bytes.
        start: Where to begin.
    """
    rest = b""
    while True:
        chunk = read(start + len(rest), _CHUNK_BYTES)
        if not chunk:
            return  # what is left has no end: it is torn
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            start += len(line) + 1
            checksum, _, text = line.partition(b" ")
            if checksum == b"%08x" % zlib.crc32(text):
                yield start, json.loads(text)
