"""The command `upload`: sends samples that earlier processes could not send."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import mlflow

from mlflow_sysmetrics.cli.tables import text_table
from mlflow_sysmetrics.delivery.leftovers import stream_of
from mlflow_sysmetrics.delivery.run_store import Busy, Limits, RunGone, RunNotFound, StoreAnswer
from mlflow_sysmetrics.delivery.spool import Spool, SpoolError, SpoolRefused, spool_files
from mlflow_sysmetrics.delivery.spool_folder import shown
from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.host.backoff import FIRST_PAUSE_S, Backoff
from mlflow_sysmetrics.log.addresses import shown_address, shown_text
from mlflow_sysmetrics.log.isolation import Isolated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.delivery.stream import Stream

_ATTEMPTS = 5  # failures in a row

_limits: defaultdict[str, Limits] = defaultdict(Limits)
"""Limits of each store, by tracking URI."""


@dataclass(frozen=True)
class Selection:
    """Which spool files to send or list.

    Attributes:
        folder: Where the spool files are.
        tracking_uri: The store to send to; files for another one are not sent.
        run_ids: Only these runs; all if empty.
        file: Only this file, whoever wrote it; None for all files of this user.
    """

    folder: Path
    tracking_uri: str
    run_ids: Collection[str] = ()
    file: Path | None = None

    @property
    def place(self) -> Path:
        """The file or folder."""
        return self.file or self.folder


def selection(
    folder: Path, tracking_uri: str | None, run_ids: Collection[str], file: Path | None
) -> Selection:
    """See `Selection`; without a tracking URI, MLflow's one in force."""
    return Selection(
        folder,
        tracking_uri or mlflow.get_tracking_uri(),
        run_ids,
        file.absolute() if file is not None else None,
    )


def list_leftovers(chosen: Selection) -> None:
    """Print what is waiting, for all stores."""
    rows = []
    for spool in _spools(chosen, tracking_uri=None):
        age_s = time.time() - spool.modified_s
        address = spool.address
        store = shown_address(address.tracking_uri)
        rows.append((address.run_id, f"{spool.left} samples", _age(age_s), store))
        spool.release()
    if rows:
        click.echo(text_table(rows))
    else:
        click.echo(f"Nothing waits in {chosen.place}.")


def send_leftovers(chosen: Selection, *, dry_run: bool) -> bool:
    """Send what is waiting, and print the result for each file.

    Args:
        chosen: Which files.
        dry_run: Ask the stores what they lack, but send nothing.

    Returns:
        Whether all succeeded.
    """
    is_well, is_any = True, False
    for spool in _spools(chosen, chosen.tracking_uri):
        is_any = True
        stream = stream_of(spool, chosen.tracking_uri)
        if chosen.file is not None:
            _show(spool)
        with Isolated() as attempt:  # the others are sent all the same
            said = _dry_run(stream) if dry_run else _send(stream)
            if not (dry_run or spool.is_ours):
                said += "; the file is another user's, and stays"
        if attempt.error:
            is_well = False
            why = shown_text(attempt.error, stream.address.tracking_uri)
            said = f"not sent, {stream.unsent} samples stay in {shown(spool.path)}: {why}"
            if isinstance(attempt.error, RunGone | RunNotFound):
                said += "; if it is gone for good, delete that file"
            stream.release()
        click.echo(f"{stream.address} on {shown_address(spool.address.tracking_uri)}: {said}")
    if not is_any:
        click.echo(f"Nothing waits in {chosen.place}.")
    return is_well


def _spools(chosen: Selection, tracking_uri: str | None) -> Iterator[Spool]:
    """The chosen files, checked, oldest first; prints which of them cannot be claimed, and why."""
    for path in spool_files(chosen.folder) if chosen.file is None else [chosen.file]:
        try:
            spool = _adopt(path, tracking_uri, is_named=chosen.file is not None)
        except FileNotFoundError as reason:  # sent by another process meanwhile
            if chosen.file is not None:
                raise click.ClickException(f"{shown(path)}: {reason.strerror}") from reason
            continue
        except (SpoolError, OSError) as reason:
            click.echo(f"{shown(path)} is left alone: {_why(reason)}", err=True)
            continue
        if chosen.run_ids and spool.address.run_id not in chosen.run_ids:
            spool.release()
        else:
            yield spool


def _adopt(path: Path, tracking_uri: str | None, *, is_named: bool) -> Spool:
    try:
        return Spool.adopt(path, tracking_uri)
    except (SpoolRefused, PermissionError):
        if not is_named:
            raise
    return Spool.adopt(path, tracking_uri, of_others=True)


def _why(reason: Exception) -> str:
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason)


def _show(spool: Spool) -> None:
    """Print the owner and content of a file; in a terminal, ask for confirmation."""
    address = spool.address
    click.echo(
        f"{shown(spool.path)}: written by {spool.owner}, {spool.left} samples with "
        f"{spool.count_points()} points for {address} on {shown_address(address.tracking_uri)}"
    )
    if not spool.is_ours and sys.stdin.isatty():
        click.confirm("Go on?", abort=True)


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


def _patiently(ask: Callable[[RunStore], int], store: RunStore) -> int:
    """Ask a store; retry a few times if it is busy or the failure may be temporary."""
    backoff = Backoff()
    while backoff.failures < _ATTEMPTS - 1:
        with Isolated() as attempt:
            return ask(store)
        error = attempt.error
        if isinstance(error, StoreAnswer) and error.of_one_run:
            raise error
        pause_s = max(error.retry_after_s, FIRST_PAUSE_S) if isinstance(error, Busy) else None
        backoff.fail(error, now_s=0.0, pause_s=pause_s)
        time.sleep(backoff.not_before_s)
    return ask(store)


def _age(seconds: float) -> str:
    for unit, length_s in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit} old"
    return "new"
