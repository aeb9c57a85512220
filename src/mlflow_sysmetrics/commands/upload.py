"""The command `upload`: sends what earlier processes could not."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

import click
import mlflow

from mlflow_sysmetrics.commands.tables import text_table
from mlflow_sysmetrics.delivery.addresses import shown_address, shown_text
from mlflow_sysmetrics.delivery.leftovers import adopt
from mlflow_sysmetrics.delivery.run_store import (
    AccessDenied,
    Busy,
    InvalidPoints,
    Limits,
    RunGone,
    RunNotFound,
)
from mlflow_sysmetrics.delivery.spool import SpoolError, spool_files
from mlflow_sysmetrics.delivery.tracking import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.delivery.stream import Stream

_ATTEMPTS = 5  # in a row that fail
_FIRST_PAUSE_S = 1.0  # doubled after each failure

_limits: defaultdict[str, Limits] = defaultdict(Limits)
"""What is known of each store, by its tracking URI."""


def list_leftovers(folder: Path, run_ids: Collection[str]) -> None:
    """Print what waits in a folder."""
    rows = []
    for stream, path in _streams(folder, run_ids):
        age_s = time.time() - path.stat().st_mtime
        address = stream.address
        rows.append(
            (
                address.run_id,
                f"{stream.unsent} samples",
                _age(age_s),
                shown_address(address.tracking_uri),
            )
        )
        stream.release()
    if rows:
        click.echo(text_table(rows))
    else:
        click.echo(f"Nothing waits in {folder}.")


def send_leftovers(folder: Path, run_ids: Collection[str], *, dry_run: bool) -> bool:
    """Send what waits in a folder, and say what became of it.

    Args:
        folder: Where the spool files are.
        run_ids: Send for these runs alone; for all where it is empty.
        dry_run: Ask the stores what they lack, but send nothing.

    Returns:
        Whether all went well.
    """
    is_well, is_any = True, False
    for stream, path in _streams(folder, run_ids):
        is_any = True
        try:
            said = _dry_run(stream) if dry_run else _send(stream)
        except Exception as error:  # noqa: BLE001 - the others are sent all the same
            is_well = False
            said = f"not sent, {stream.unsent} samples stay in {path}: {_shown(error, stream)}"
            if isinstance(error, RunGone | RunNotFound):
                said += "; if it is gone for good, delete that file"
            stream.release()
        click.echo(f"{stream.address} on {shown_address(stream.address.tracking_uri)}: {said}")
    if not is_any:
        click.echo(f"Nothing waits in {folder}.")
    return is_well


def _streams(folder: Path, run_ids: Collection[str]) -> Iterator[tuple[Stream, Path]]:
    """All that can be taken up now, the oldest first; what cannot is said."""
    tracking_uri = mlflow.get_tracking_uri()
    for path in spool_files(folder):
        try:
            stream = adopt(path, tracking_uri)
        except FileNotFoundError:  # sent by another process meanwhile
            continue
        except (SpoolError, OSError) as reason:
            click.echo(f"{path} is left alone: {reason}", err=True)
            continue
        if run_ids and stream.address.run_id not in run_ids:
            stream.release()
        else:
            yield stream, path


def _dry_run(stream: Stream) -> str:
    missing = _patiently(
        stream.count_missing, open_store(stream.address, _limits[stream.address.tracking_uri])
    )
    stream.release()
    return f"{missing} of {stream.unsent} samples would be sent"


def _send(stream: Stream) -> str:
    samples = stream.unsent
    if not samples:
        stream.forget()
        return "all was sent before"
    store = open_store(stream.address, _limits[stream.address.tracking_uri])
    with click.progressbar(length=samples, label=f"Sending {stream.address}") as progress:
        while stream.unsent:
            progress.update(_patiently(stream.send, store))
    return f"{samples} samples sent"


def _shown(error: Exception, stream: Stream) -> str:
    return shown_text(error, stream.address.tracking_uri)


def _patiently(ask: Callable[[RunStore], int], store: RunStore) -> int:
    """Ask a store, again if it is busy or fails in a way that may pass; but not for ever."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return ask(store)
        except (RunGone, RunNotFound, AccessDenied, InvalidPoints):
            raise
        except Busy as reason:
            pause_s = max(reason.retry_after_s, _FIRST_PAUSE_S)
        except Exception:  # noqa: BLE001 - whatever it was, the last attempt tells it
            pause_s = _FIRST_PAUSE_S * 2**attempt
        time.sleep(pause_s)
    return ask(store)


def _age(seconds: float) -> str:
    for unit, length_s in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit} old"
    return "new"
