"""Text from outside (variables, files, drivers, commands), made fit for a tag or a key.

A variable may hold any bytes, which Python decodes to surrogates; stores raise on those and on NUL.
Line breaks, terminal escapes and bidi overrides would change how a page or a log looks.
"""

from __future__ import annotations

import re
import sys

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH

CUT_MARK = "…"
"""Ends a text that was too long."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SEPARATORS = (",", ";", " ")
_NOT_IN_KEYS = re.compile(r"[^\w/. -]" if sys.platform == "win32" else r"[^\w/. :-]")


def clean(text: str, max_bytes: int = MAX_TAG_LENGTH) -> str:
    """The text as every store accepts it, without characters that could mislead a reader.

    Bytes that are not UTF-8 become U+FFFD. Control characters and line breaks become a blank;
    characters that do not print (bidi overrides, zero-width characters) are removed. A text that is
    too long is cut after a separator (comma, semicolon, blank) in its second half, if there is one,
    and ends in `…`.

    Returns:
        At most `max_bytes` of UTF-8; empty where nothing legible is left.
    """
    text = _BREAKS.sub(" ", _as_unicode(text))
    text = "".join(each for each in text if each.isprintable() or each.isspace()).strip()
    return _cut(text, max_bytes) if text.strip(f"{_REPLACEMENT} ") else ""


def clean_key(text: str, max_length: int) -> str:
    """A metric's key, or its beginning, as MLflow accepts it.

    Characters that are not allowed become `_`; parts that would name another folder (`..`, or
    nothing between two slashes) are removed. The result is cut at `max_length`.
    """
    *folders, last = _NOT_IN_KEYS.sub("_", _as_unicode(text)).split("/")
    named = [folder for folder in folders if folder not in {"", ".", ".."}]
    return "/".join([*named, last])[:max_length]


def _as_unicode(text: str) -> str:
    """Bytes that the system's encoding could not decode (surrogates), decoded as UTF-8."""
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        content = text.encode("utf-8", "surrogatepass")
    return content.decode("utf-8", "replace")


def _cut(text: str, max_bytes: int) -> str:
    content = text.encode()
    if len(content) <= max_bytes:
        return text
    head = content[: max_bytes - len(CUT_MARK.encode())].decode("utf-8", "ignore")
    end = max(head.rfind(separator) + 1 for separator in _SEPARATORS)
    if end <= len(head) // 2:  # better half an element than half of the text
        end = len(head)
    return head[:end].rstrip() + CUT_MARK
