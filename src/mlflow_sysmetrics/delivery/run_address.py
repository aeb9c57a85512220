"""Where the samples of a run go, and how that is written down for a later process."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow_sysmetrics.log.addresses import shown_address


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
    tracking_uri: str = field(repr=False)  # may have a password
    prefix: str
    workspace: str | None = None

    def __str__(self) -> str:
        return f"run {self.run_id}"


def portable_uri(tracking_uri: str) -> str:
    """A tracking URI as it may be written to disk: without secrets, with an absolute path.

    Two processes that log to the same store have the same one, wherever they were started.
    """
    database = re.fullmatch(
        r"(sqlite(?:\+\w+)?:///)(?!:memory:)([^?]+)(.*)", tracking_uri, re.DOTALL
    )
    if database is not None:
        scheme, path, query = database.groups()
        return shown_address(scheme + _absolute(path) + query)
    scheme = re.match(r"[A-Za-z][\w+.-]+(?=:)", tracking_uri)  # of one letter, it is a drive
    name = scheme[0].lower() if scheme is not None else ""
    if name in {"", "file"} and not tracking_uri.startswith("databricks"):
        # As MLflow reads it, which takes `%20` for a space in any path.
        path = url2pathname(urlsplit(tracking_uri).path if name else tracking_uri)
        return _absolute(path).replace("%", "%25")
    shown = shown_address(tracking_uri)
    return shown.rstrip("/") if name in {"http", "https"} else shown


def is_same_store(one: str, other: str) -> bool:
    """Whether two tracking URIs, portable or not, lead to the same scheme, host, port and path."""
    try:
        return _parts(one) == _parts(other)
    except ValueError:  # one has no host or port that can be read
        return False


def _parts(tracking_uri: str) -> tuple[str | int | None, ...]:
    uri = portable_uri(tracking_uri)
    if "@" not in tracking_uri:
        _ = urlsplit(tracking_uri).port  # raises for one that `portable_uri` leaves out
    parts = urlsplit(uri)
    if parts.scheme not in _PORTS:
        return (uri,)
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], parts.path, parts.query


_PORTS = {"http": 80, "https": 443}


def _absolute(path: str) -> str:
    return str(Path(path).absolute())  # to MLflow, a `~` is a name as any other
