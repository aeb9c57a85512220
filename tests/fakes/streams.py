"""What tests do with the stream of a run: add to it, send it, and leave it to a later process."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fakes.scripted_store import samples
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool
from mlflow_sysmetrics.delivery.stream import Stream

if TYPE_CHECKING:
    from fakes.scripted_store import ScriptedStore

ADDRESS = RunAddress("1", "http://somewhere", "system/")


def add(stream: Stream, *steps: int) -> None:
    for each in samples(steps):
        stream.queue.add(each)
        if stream.is_overdue:
            stream.persist()


def send_all(stream: Stream, store: ScriptedStore) -> None:
    """Send, and try again what fails."""
    while stream.unsent:
        with suppress(ConnectionError):
            stream.send(store)


def left_by(stream: Stream) -> Stream:
    """What a later process finds when this one has ended."""
    path = stream.spool_path
    assert path is not None
    stream.release()
    return Stream.of_spool(Spool.adopt(path), ADDRESS)
