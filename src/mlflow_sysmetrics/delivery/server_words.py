"""What a server says about a request that it refuses, whatever form it has."""

from __future__ import annotations

import html
import json
import re
from typing import Any

_KEYS = (
    *("message", "error_message", "errormessage", "msg", "detail", "details", "reason"),
    *("description", "error_description", "title", "error", "errors"),
)
"""Where servers put their words, the best first; in lower case."""

_MAX_DEPTH = 8
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_NO_WORDS = re.compile(
    r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.IGNORECASE | re.DOTALL
)


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON
    """A reply as JSON; None where it is none, or nested without end."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def find_words(text: str) -> str:
    """A server's own words in its reply: of JSON the message, of a page the title.

    `{"Error": {"Message": "max_results must be at most 1000"}}`, `{"detail": [{"msg": "no"}]}`,
    `<html><head><title>Sign in</title>`, `upstream connect error`
    """
    found = parse_json(text)
    if found is not None:
        return _words_in(found, _MAX_DEPTH)
    if re.match(r"\s*<", text):
        title = _TITLE.search(text)
        return html.unescape(_NO_WORDS.sub(" ", title[2] if title else text)).strip()
    return text.strip()


def _words_in(found: Any, depth: int) -> str:  # noqa: ANN401 - any JSON
    if isinstance(found, str):
        inner = parse_json(found) if found.lstrip()[:1] in {"{", "["} else None  # JSON in JSON
        return (_words_in(inner, depth - 1) if inner and depth else "") or found.strip()
    if not depth:
        return ""
    if isinstance(found, list):
        return "; ".join(filter(None, (_words_in(each, depth - 1) for each in found[:5])))
    if isinstance(found, dict):
        by_key = {str(key).lower(): value for key, value in reversed(found.items())}
        known = [by_key[key] for key in _KEYS if key in by_key]
        nested = [each for each in found.values() if isinstance(each, dict | list)]
        for each in (*known, *nested):
            if words := _words_in(each, depth - 1):
                return words
    return ""
