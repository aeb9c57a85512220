"""JSON as a tag keeps it: compressed, in letters that every store takes."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

_VERSION = "1:"
_MAX_JSON_LENGTH = 1_000_000  # of a tag that someone may have tampered with


def packed(content: object) -> str:
    """`1:` and what `unpacked` makes the same content of; without blanks."""
    compressed = zlib.compress(json.dumps(content, separators=(",", ":")).encode())
    return _VERSION + base64.b64encode(compressed).decode()


def unpacked(text: str) -> Any:  # noqa: ANN401 - whatever JSON can be
    """What was packed.

    Raises:
        ValueError: It is no such text.
    """
    if not text.startswith(_VERSION):
        raise ValueError("of another version")
    try:
        compressed = base64.b64decode(text.removeprefix(_VERSION), validate=True)
        return json.loads(zlib.decompressobj().decompress(compressed, _MAX_JSON_LENGTH))
    except zlib.error as error:
        raise ValueError(str(error)) from error
