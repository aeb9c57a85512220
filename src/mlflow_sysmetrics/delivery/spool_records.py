"""What the lines of a spool file may say: each is checked, for a file may be damaged or forged.

A run gets from a file nothing but metrics under `system/` and the plugin's own tags.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH, PREFIX
from mlflow_sysmetrics.delivery.run_address import RunAddress, portable_uri
from mlflow_sysmetrics.delivery.spool_folder import SpoolRefused
from mlflow_sysmetrics.sampling.sink import SUMMARY_PREFIX, Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Steps: TypeAlias = tuple[range, int]
    """Steps of samples, and how many of the host's each of those is made of."""

FORMAT = 1

_HEADER_FIELDS = {"run_id", "tracking_uri", "prefix", "first_step", "tags"}
_MARKS = {"sent_to", "dropped", "first_step", "left", "read_to"}
_MAX_SAMPLES = 2**32  # one a run may be made of
_MAX_STEP = 2**40  # a hundred years at a hundred samples a second have fewer
_MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999
_MAX_NUMBER = 2**63 - 1
_MAX_KEY = 250  # MLflow's limit
_MAX_TAGS = 100  # MLflow's limit for one batch
_MAX_TAG_BYTES = 6 * MAX_TAG_LENGTH
_MAX_URI = 4096

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")  # as MLflow checks it
_KEY = re.compile(re.escape(PREFIX) + r"(?!\.+(/|$))[\w.\- :]+(/(?!\.+(/|$))[\w.\- :]+)*")
_TAG = re.compile(r"(sys|sysmetrics)\.[A-Za-z0-9_.]+")
_WORKSPACE = re.compile(r"[A-Za-z0-9._-]{1,250}")


@dataclass(frozen=True)
class Header:
    """The first line: whose samples follow.

    Attributes:
        address: The run; the tracking URI is a portable one.
        first_step: Step of the run to which the samples' steps are added; None if not known yet.
        tags: Tags to set on a resumed run that has none of them.
    """

    address: RunAddress
    first_step: int | None
    tags: Mapping[str, str]


def header_record(header: Header) -> dict[str, object]:
    """The first line of a file, as JSON."""
    address = header.address
    return {
        "format": FORMAT,
        "run_id": address.run_id,
        "tracking_uri": portable_uri(address.tracking_uri),
        "prefix": address.prefix,
        "workspace": address.workspace,
        "first_step": header.first_step,
        "tags": header.tags,
    }


def parse_header(record: Any) -> Header:  # noqa: ANN401 - any JSON
    """What the first line says.

    Raises:
        SpoolRefused: It is of another version, or says what this package never writes.
    """
    if (
        not isinstance(record, dict)
        or record.get("format") != FORMAT
        or not record.keys() >= _HEADER_FIELDS
    ):
        raise SpoolRefused("it does not begin as the files of this version do")
    run_id, uri, prefix = record["run_id"], record["tracking_uri"], record["prefix"]
    workspace = record.get("workspace")  # not in the files of the first versions
    first_step, tags = record["first_step"], record["tags"]
    _check("a run id", isinstance(run_id, str) and _RUN_ID.fullmatch(run_id))
    _check("a tracking URI", isinstance(uri, str) and len(uri) <= _MAX_URI and uri.isprintable())
    _check("a prefix", isinstance(prefix, str) and _is_key(f"{prefix}key"))
    _check("a workspace", workspace is None or _is_text_of(workspace, _WORKSPACE))
    _check("a first step", first_step is None or _is_count(first_step, _MAX_STEP))
    _check_tags(tags)
    return Header(RunAddress(run_id, uri, prefix, workspace), first_step, tags)


def parse_record(record: Any, prefix: str) -> Record | dict[str, int]:  # noqa: ANN401 - any JSON
    """What a later line says: a sample, or marks such as `{"sent_to": 13}`.

    Args:
        record: The line, as JSON.
        prefix: The header's.

    Raises:
        SpoolRefused: It says what this package never writes.
    """
    if isinstance(record, dict):
        _check("marks", all(_is_count(record[name], _MAX_NUMBER) for name in _MARKS & {*record}))
        _check("a first step", record.get("first_step", 0) <= _MAX_STEP)
        return {name: record[name] for name in _MARKS & {*record}}
    _check("samples", isinstance(record, list) and len(record) in {3, 4, 5})
    step, timestamp_ms, values, *rest = record
    samples = rest[0] if rest else 1
    tags, summary = _parse_more(rest[1]) if rest[1:] else ({}, {})
    is_empty_well = samples != 0 or (bool(rest[1:]) and values == {})
    _check("numbers of samples", _is_count(samples, _MAX_SAMPLES) and is_empty_well)
    _check("steps", _is_count(step, _MAX_STEP))
    _check("times", _is_count(timestamp_ms, _MAX_TIMESTAMP_MS))
    _check_metrics(values, prefix)
    return Record(step, timestamp_ms, values, samples, tags, summary)


def first_step_in(text: bytes, before: int | None) -> int | None:
    """The first step that marks tell; that known before where they tell none.

    `{"first_step": 40}`
    """
    found = re.search(rb'"first_step":(\d{1,13})[,}]', text)
    return before if found is None else int(found[1])


def _parse_more(more: Any) -> tuple[dict[str, str], dict[str, float]]:  # noqa: ANN401 - any JSON
    """Tags and summary: `{"tags": {"sys.findings": "…"}, "summary": {"summary/…_mean": 1.0}}`."""
    _check("parts of samples", isinstance(more, dict) and more.keys() == {"tags", "summary"})
    _check_tags(more["tags"])
    _check_metrics(more["summary"], PREFIX)
    _check("summaries", all(key.startswith(SUMMARY_PREFIX) for key in more["summary"]))
    return more["tags"], more["summary"]


def _check_metrics(values: Any, prefix: str) -> None:  # noqa: ANN401 - any JSON
    _check("metrics", isinstance(values, dict))
    for key, value in values.items():
        _check("metric keys", _is_key(prefix + key))
        _check("values", _is_value(value))


def _check_tags(tags: Any) -> None:  # noqa: ANN401 - any JSON
    _check("tags", isinstance(tags, dict) and len(tags) <= _MAX_TAGS)
    for key, value in tags.items():
        is_ours = len(key) <= _MAX_KEY and _TAG.fullmatch(key)
        _check("tags", is_ours and isinstance(value, str) and len(value) <= _MAX_TAG_BYTES)


def parse_progress(record: Mapping[str, Any]) -> tuple[int, list[Steps]] | None:
    """How far a file was checked, and the steps of its samples as far; None if that is not told.

    `{"checked_to": 16777216, "steps": [[0, 3811, 1]], …}`
    """
    end, found = record.get("checked_to"), record.get("steps")
    if type(end) is not int or end < 0 or not isinstance(found, list):
        return None
    steps = [(range(*each[:2]), each[2]) for each in found if _are_steps(each)]
    return (end, steps) if len(steps) == len(found) else None


def _are_steps(found: object) -> bool:
    return (
        isinstance(found, list)
        and len(found) == 3  # noqa: PLR2004 - first, last, samples
        and all(_is_count(number, _MAX_STEP + 1) for number in found)
    )


def _check(what: str, is_ours: object) -> None:
    if not is_ours:
        raise SpoolRefused(f"it has {what} that this package never writes")


def _is_count(value: object, largest: int) -> bool:
    return type(value) is int and 0 <= value <= largest


def _is_text_of(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_value(value: object) -> bool:
    if type(value) is int:
        return -_MAX_NUMBER <= value <= _MAX_NUMBER
    return type(value) is float and math.isfinite(value)


@lru_cache(maxsize=4096)
def _is_key(key: str) -> bool:
    """Whether a metric's key is of the form of ours, of this or an earlier version."""
    return len(key) <= _MAX_KEY and _KEY.fullmatch(key) is not None
