"""A run on a tracking server, by MLflow's REST API 2.0: one attempt a call, bounded in time.

Requests are made by MLflow's own `http_request`, so with the user's credentials as they are at that
moment, but without its retries.

https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import math
import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mlflow.utils.rest_utils import http_request

from mlflow_sysmetrics.delivery.quiet import quiet_libraries
from mlflow_sysmetrics.delivery.run_store import (
    AccessDenied,
    Busy,
    InvalidPoints,
    Limits,
    RunState,
    StoreFailed,
    full_key,
    raise_for,
    state_from_json,
)
from mlflow_sysmetrics.delivery.server_words import find_words, parse_json
from mlflow_sysmetrics.log.addresses import hide, shown_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlflow.utils.rest_utils import MlflowHostCreds
    from requests import Response

    from mlflow_sysmetrics.delivery.run_address import RunAddress
    from mlflow_sysmetrics.sampling.sink import Point

REQUEST_TIMEOUT_S = 10.0
"""Longest time without an answer; a server that is well takes far less for a batch."""

REPLY_TIMEOUT_S = 30.0
"""Longest time that a reply may take from its first byte to its last."""

MAX_REPLY_BYTES = 32 * 2**20
"""A page of a history has some 2 MB; a run may have many tags and parameters."""

_MAX_SHORT_REPLY_BYTES = 2**16  # of an error, or where nothing is to be told
_CHUNK_BYTES = 2**16
_MAX_POINTS_A_SECOND_TRY = 5  # a page that is refused is asked for with a fifth of its points

_WORKSPACE_HEADER = "X-MLFLOW-WORKSPACE"
_LONGEST_RETRY_AFTER_S = 600.0
_REFUSALS = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUEST_URI_TOO_LONG,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}
"""The server has understood the request, and does not want it as it is."""

_ONE_ATTEMPT = {"max_retries": 0}
if "retry_timeout_seconds" in signature(http_request).parameters:  # not in MLflow 2.16
    _ONE_ATTEMPT["retry_timeout_seconds"] = 1  # the SDK of Databricks would go on for minutes


class UnexpectedAnswerError(StoreFailed):
    """The server, or what stands before it, failed; the message says how."""


class _TooMuchError(UnexpectedAnswerError):
    """A request or its reply is too large, or so it seems: less may be asked for."""


class _Reply(NamedTuple):
    """What a server has answered, as far as it was read."""

    status: int
    text: str
    retry_after: str | None
    reason: str
    is_whole: bool


class RestRunStore:
    """A run on a tracking server; see `RunStore` for its methods.

    Args:
        address: The run.
        get_credentials: MLflow's; asked before each request, so that a renewed token is used.
        limits: What is known of the server's; gets what it refuses.
    """

    def __init__(
        self,
        address: RunAddress,
        get_credentials: Callable[[], MlflowHostCreds],
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._run_id = address.run_id
        self._prefix = address.prefix
        self._workspace = address.workspace
        self._get_credentials = get_credentials

    def log(self, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        """See `RunStore`."""
        body = {
            "run_id": self._run_id,
            "metrics": [
                {
                    "key": full_key(self._prefix, point),
                    "value": point.value,
                    "timestamp": point.timestamp_ms,
                    "step": point.step,
                }
                for point in points
            ],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        self._ask("POST", "runs/log-batch", _MAX_SHORT_REPLY_BYTES, json=body)

    def read(self) -> RunState:
        """See `RunStore`."""
        answer = self._ask("GET", "runs/get", params={"run_id": self._run_id})
        try:
            return state_from_json(answer["run"], self._prefix)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise _not_mlflows(answer) from None

    def timestamps(self, key: str) -> frozenset[int]:
        """See `RunStore`."""
        found: set[int] = set()
        query: dict[str, Any] = {"run_id": self._run_id, "metric_key": self._prefix + key}
        while True:
            page = self._history_page(query)
            try:
                found.update(int(metric["timestamp"]) for metric in page.get("metrics", ()))
            except (LookupError, TypeError, ValueError):
                raise _not_mlflows(page) from None
            token = page.get("next_page_token")
            if not token:
                return frozenset(found)
            if token == query.get("page_token"):  # it would go on for ever
                raise UnexpectedAnswerError("the server gives the same page of a history again")
            query["page_token"] = token

    def _history_page(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """The next page, with fewer points where the server does not give so many at once."""
        while True:
            points = self.limits.history_points
            try:
                asked = {**query, "max_results": points}
                return self._ask("GET", "metrics/get-history", params=asked)
            except (InvalidPoints, _TooMuchError):
                smaller = points // _MAX_POINTS_A_SECOND_TRY
                if not smaller:  # then it is something else
                    self.limits.history_points = Limits.history_points
                    raise
                self.limits.history_points = smaller

    def _ask(
        self, method: str, endpoint: str, max_bytes: int | None = None, **content: object
    ) -> dict[str, Any]:
        credentials = self._get_credentials()
        secrets = (credentials.token, credentials.password, credentials.client_secret)
        try:
            with quiet_libraries():
                response = http_request(
                    credentials,
                    f"/api/2.0/mlflow/{endpoint}",
                    method,
                    # The run's; where it is None there is none, whatever the user's has become.
                    extra_headers={_WORKSPACE_HEADER: self._workspace},
                    raise_on_status=False,
                    timeout=REQUEST_TIMEOUT_S,
                    stream=True,
                    **_ONE_ATTEMPT,
                    **content,
                )
                reply = _read(response, max_bytes or MAX_REPLY_BYTES)
        except Exception as error:
            raise StoreFailed.of(error, credentials.host, secrets=secrets) from error
        words = shown_text(hide(find_words(reply.text), *secrets), credentials.host)
        if reply.status != HTTPStatus.OK:
            _raise(reply, words, shown_text(hide(reply.reason, *secrets), credentials.host))
        if not reply.is_whole:
            raise _TooMuchError("the server's reply has no end, or is too large")
        answer = parse_json(reply.text)
        if not isinstance(answer, dict) or _error_code(answer):
            raise _not_mlflows(words)
        return answer


def _read(response: Response, max_bytes: int) -> _Reply:
    """Read a reply, but no more than some bytes, and no longer than some time.

    Raises:
        Exception: What the HTTP client raises, such as `ConnectionError`.
    """
    if response.status_code != HTTPStatus.OK:
        max_bytes = _MAX_SHORT_REPLY_BYTES
    deadline_s = time.monotonic() + REPLY_TIMEOUT_S
    chunks: list[bytes] = []
    size = 0
    is_whole = False
    try:
        for chunk in _chunks(response):
            chunks.append(chunk[: max_bytes - size])
            size += len(chunk)
            if size > max_bytes or time.monotonic() > deadline_s:
                break
        else:
            is_whole = True
    finally:
        if response.raw is not None:
            response.close()
    return _Reply(
        response.status_code,
        b"".join(chunks).decode(errors="replace"),
        response.headers.get("Retry-After"),
        str(response.reason or ""),
        is_whole,
    )


def _chunks(response: Response) -> Iterator[bytes]:
    """A reply as it comes: a server that sends byte by byte is not waited for to fill a chunk."""
    if response.raw is None:  # MLflow has made it of an error of the SDK of Databricks
        yield response.content
        return
    read_some = getattr(response.raw, "read1", None)
    if read_some is None:  # urllib3 1
        yield from response.iter_content(1024)
        return
    while chunk := read_some(_CHUNK_BYTES, decode_content=True):
        yield chunk


def _not_mlflows(answer: object) -> UnexpectedAnswerError:
    said = shown_text(answer) or "nothing"
    return UnexpectedAnswerError(f"what answers is not MLflow; it says: {said} (HTTP 200)")


def _raise(reply: _Reply, words: str, status_words: str) -> NoReturn:
    """Raise what the answer means to delivery.

    Raises:
        RunNotFound: The run does not exist.
        AccessDenied: No permission.
        InvalidPoints: The points are not as the server wants them, or too many.
        Busy: It says when to come again.
        UnexpectedAnswerError: Anything else, which may pass.
    """
    status = reply.status
    reason = f"{words or status_words} (HTTP {status})"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise AccessDenied(reason)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        raise InvalidPoints(reason, is_too_large=True)
    retry_after_s = parse_retry_after(reply.retry_after)
    if retry_after_s is not None:
        raise Busy(reason, retry_after_s)
    answer = parse_json(reply.text)
    raise_for(_error_code(answer), reason)
    if status in _REFUSALS:
        # In words of its own, it is a server; a page may be of whatever stands before it.
        if isinstance(answer, dict) and words:
            raise InvalidPoints(reason)
        raise _TooMuchError(reason)
    raise UnexpectedAnswerError(reason)


def _error_code(answer: object) -> str:
    """The code of MLflow's error; empty where it is none."""
    code = answer.get("error_code") if isinstance(answer, dict) else None
    return code if isinstance(code, str) else ""


def parse_retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: `120`, or `Wed, 21 Oct 2015 07:28:00 GMT`.

    None where there is none, or none that can be read; never more than ten minutes.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(timezone.utc)).total_seconds()
        except (ValueError, TypeError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
