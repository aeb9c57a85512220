"""Where the samples of a run go, and how that is written down for a later process."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


@dataclass(frozen=True)
class RunAddress:
    """A run in a tracking store.

    Attributes:
        run_id: The run.
        tracking_uri: Where it lives.
        prefix: What our metric keys begin with, such as `system/`.
        workspace: The server's workspace that it is in; None for the default one, and where there
            are none.
    """

    run_id: str
    tracking_uri: str
    prefix: str
    workspace: str | None = None

    def __str__(self) -> str:
        return f"run {self.run_id}"


def portable_uri(tracking_uri: str) -> str:
    """A tracking URI as it may be written to disk: without password, with an absolute path.

    Two processes that log to the same store have the same one, wherever they were started.
    """
    if tracking_uri.startswith("databricks"):
        return tracking_uri
    database = re.fullmatch(r"(sqlite(?:\+\w+)?:///)(?!:memory:)(.+)", tracking_uri)
    if database is not None:
        return database[1] + _absolute(database[2])
    parts = urlsplit(tracking_uri)
    if parts.scheme in {"", "file"} or len(parts.scheme) == 1:  # a path; on Windows with a drive
        # As MLflow reads it, which takes `%20` for a space in any path.
        path = url2pathname(parts.path if parts.scheme == "file" else tracking_uri)
        return _absolute(path).replace("%", "%25")
    if parts.scheme in {"http", "https"}:  # all that is before the @ is secret: it may be a token
        host = parts.netloc.rpartition("@")[2]
        tracking_uri = parts._replace(netloc=host, path=parts.path.rstrip("/")).geturl()
    address, _, query = _PASSWORD.sub(r"\1@", tracking_uri).partition("?")
    kept = [each for each in query.split("&") if each and not _SECRET.match(each)]
    return f"{address}?{'&'.join(kept)}" if kept else address


def is_same_store(one: str, other: str) -> bool:
    """Whether two tracking URIs, portable or not, lead to the same scheme, host, port and path."""
    try:
        return _parts(one) == _parts(other)
    except ValueError:  # one has no host or port that can be read
        return False


def _parts(tracking_uri: str) -> tuple[str | int | None, ...]:
    uri = portable_uri(tracking_uri)
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS:
        return (uri,)
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], parts.path, parts.query


_PORTS = {"http": 80, "https": 443}
_PASSWORD = re.compile(r"^([^/?#]+://[^:/?#]*):[^/?#]*@")
_SECRET = re.compile(r"((ssl)?pass\w*|pwd|odbc_connect)=", re.IGNORECASE)
"""What passes a password to a database in the query of its URL."""


def _absolute(path: str) -> str:
    return str(Path(path).absolute())  # to MLflow, a `~` is a name as any other
