"""An uploader, the stores that it finds, and what earlier processes left."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from fakes.scripted_store import ScriptedStore, samples
from fakes.simulation import LONG_S
from mlflow_sysmetrics.delivery.backlog import Backlog
from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.spool import Spool
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.uploader import Uploader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlflow_sysmetrics.delivery.run_store import Limits


UPLOADER_THREAD = "mlflow-sysmetrics-uploader"
URI = "http://somewhere"


class UploaderBench:
    """An uploader, the stores that it finds by the ids of their runs, and its folder."""

    def __init__(self, folder: Path) -> None:
        # It tries again at once.
        self.uploader = Uploader(URI, Backlog(), self.open_store, jitter=lambda: 0.0)
        self.stores: dict[str, ScriptedStore | Exception] = {}
        self.opened: list[str] = []
        self.folder = folder

    def open_store(self, address: RunAddress, limits: Limits) -> ScriptedStore:
        self.opened.append(address.run_id)
        store = self.stores[address.run_id]
        if isinstance(store, Exception):
            raise store
        store.limits = limits
        return store

    def stream(
        self,
        store: ScriptedStore | Exception,
        run_id: str = "1",
        tags: Callable[[], Mapping[str, str]] | None = None,
    ) -> Stream:
        self.stores[run_id] = store
        return Stream(RunAddress(run_id, URI, "system/"), self.folder, tags)

    def open(
        self,
        store: ScriptedStore | Exception,
        run_id: str = "1",
        tags: Callable[[], Mapping[str, str]] | None = None,
    ) -> Channel:
        return Channel(self.uploader, self.stream(store, run_id, tags))

    def put(self, sending: Channel, *steps: int) -> None:
        for each in samples(steps):
            sending.put(each)

    def leave(
        self, run_id: str, *steps: int, store: ScriptedStore | Exception, uri: str = URI
    ) -> Path:
        """Let an earlier process leave samples of a run."""
        self.stores[run_id] = store
        spool = Spool.create(self.folder, RunAddress(run_id, uri, "system/"), 0, {})
        spool.append(samples(steps))
        spool.release()
        made_s = 10**9 + len(self.stores)
        os.utime(spool.path, (made_s, made_s))
        return spool.path

    @property
    def files(self) -> list[Path]:
        return list(self.folder.glob("*"))


class Gate:
    """An answer that comes when the test says so."""

    def __init__(self) -> None:
        self.is_asked = threading.Event()
        self.opens = threading.Event()

    def __call__(self) -> None:
        self.is_asked.set()
        assert self.opens.wait(LONG_S)


def closed(sending: Channel, timeout_s: float) -> int:
    """How many samples are left when a run is closed."""
    sending.close(timeout_s)
    return sending.task.stream.unsent
