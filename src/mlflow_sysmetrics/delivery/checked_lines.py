"""Lines of JSON that carry a checksum each, so that what a crash has torn is known and skipped.

`5d1f0a8c {"sent_to": 13}`: the CRC-32 of the rest of the line, in hexadecimal, then the rest.

A checksum guards against crashes, not against people: what a line says is checked elsewhere.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Read: TypeAlias = Callable[[int, int], bytes]
    """Gives some of a file: from an offset on, at most so many bytes."""

MAX_LINE_BYTES = 2**20
"""What a line may have; one of a hundred metrics has some 4 kB."""

TORN: Final = object()
"""What a line says whose checksum is wrong, or which is too long."""

INVALID: Final = object()
"""What a line says whose checksum is right, but which is not JSON."""

_CHUNK_BYTES = 2**16


def checked_line(record: object) -> bytes:
    """One line, with its end.

    Raises:
        OSError: It would be too long to be read again.
    """
    text = json.dumps(record, separators=(",", ":")).encode()
    if len(text) > MAX_LINE_BYTES - 10:
        raise OSError(f"a sample takes more than {MAX_LINE_BYTES // 2**20} MiB")
    return b"%08x %b\n" % (zlib.crc32(text), text)


def first_checked_line(read: Read) -> tuple[int, Any]:
    """Where the first line ends, and what it says."""
    data = b""
    while b"\n" not in data and len(data) <= MAX_LINE_BYTES:
        chunk = read(len(data), _CHUNK_BYTES)
        if not chunk:
            return 0, TORN
        data += chunk
    line, _, _ = data.partition(b"\n")
    text = _text(line)
    return len(line) + 1, TORN if text is None else _parsed(text)


def read_checked_lines(read: Read, start: int = 0) -> Iterator[tuple[int, Any]]:
    """All lines of a file from an offset on: where each ends, and what it says.

    Of a line that is too long, each piece is one. What stands after the last line's end is none.
    """
    for end, text in read_checked_texts(read, start):
        yield end, TORN if text is None else _parsed(text)


def read_checked_texts(read: Read, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """The same, with the JSON as it stands there, which costs a tenth; None for what is torn."""
    rest = b""
    is_too_long = False
    while True:
        chunk = read(start + len(rest), _CHUNK_BYTES)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            start += len(line) + 1
            yield start, None if is_too_long else _text(line)
            is_too_long = False
        if len(rest) > MAX_LINE_BYTES or is_too_long:
            start += len(rest)
            rest = b""
            is_too_long = True
            yield start, None


def _text(line: bytes) -> bytes | None:
    """What follows the checksum; None where that is wrong."""
    checksum, _, text = line.partition(b" ")
    is_whole = len(line) <= MAX_LINE_BYTES and checksum == b"%08x" % zlib.crc32(text)
    return text if is_whole else None


def _parsed(text: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, too many digits; or too deep
        return INVALID


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities: no value that we write
