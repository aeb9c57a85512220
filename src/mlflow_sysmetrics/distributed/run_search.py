"""Finds the open runs of a job in a store that is there; makes none, and migrates none."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking import MlflowClient, fluent

from mlflow_sysmetrics.delivery.rest import RestRunStore
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.run_store import RunNotFound, StoreFailed
from mlflow_sysmetrics.delivery.tracking import active_workspace, calling_mlflow
from mlflow_sysmetrics.distributed.job import JOB_TAG
from mlflow_sysmetrics.host.mounts import mount_of
from mlflow_sysmetrics.log.addresses import shown_address

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXPERIMENTS = 100
"""How many experiments are searched where none is named: those that were changed last."""

_WIDE_SEARCH_APART_S = 60.0
_MOST_RUNS = 50
_NEWEST_RUNS_FIRST = ["attributes.start_time DESC"]
_NEWEST_EXPERIMENTS_FIRST = ["last_update_time DESC"]


class NoStore(Exception):  # noqa: N818 - as delivery's answers of a store
    """There is no store at the address as seen from this host, or none yet."""


class NotShared(Exception):  # noqa: N818 - as above
    """The store cannot be used by several hosts at once."""


class FoundRun(NamedTuple):
    """An open run that carries the job's tag.

    Attributes:
        run_id: The run.
        experiment_id: Its experiment.
        start_ms: When it started, by the clock of its host.
        tags: All its tags.
    """

    run_id: str
    experiment_id: str
    start_ms: int
    tags: dict[str, str]

    @property
    def leader(self) -> str:
        """Which process opened it."""
        return self.tags.get(JOB_TAG, "").partition(".")[2]


class RunSearch:
    """Looks for the open runs of a job.

    Args:
        tracking_uri: The store.

    Attributes:
        tracking_uri: The store.
        experiments: How the experiments were found that were searched last, for messages.
        cost_s: CPU time that the last search took, without that for what is done once.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self.experiments = ""
        self.cost_s = 0.0
        self._store: _Server | _Client | None = None
        self._widely_s: float | None = None
        self._found_in: set[str] = set()  # experiments
        self._has_found = False  # by the last search
        self._ids: dict[str, str] = {}  # of experiments, by name

    def find(self, key: str) -> list[FoundRun]:
        """The open runs of a job, those that started last first.

        Raises:
            NoStore: There is no store.
            NotShared: It cannot be used by several hosts.
            AccessDenied: It lets nobody in.
            Busy: It asks to be left alone.
            StoreFailed: It fails, or cannot be reached.
        """
        if self._store is None:
            self._store = _open(self.tracking_uri)
            return self._find(key, self._store)
        began_s = time.thread_time()
        found = self._find(key, self._store)
        self.cost_s = time.thread_time() - began_s
        return found

    def _find(self, key: str, store: _Server | _Client) -> list[FoundRun]:
        experiment_ids = self._named_experiments(store)
        now_s = time.monotonic()
        is_wide_due = not self._has_found and (
            self._widely_s is None or now_s - self._widely_s > _WIDE_SEARCH_APART_S
        )
        self.experiments = "the experiments that are named"
        if not experiment_ids or is_wide_due:
            self._widely_s = now_s
            self.experiments = f"the {_EXPERIMENTS} experiments that were changed last"
            experiment_ids += store.experiments()
        if not experiment_ids:
            return []
        query = f"tags.`{JOB_TAG}` LIKE '{key}.%' and attributes.status = 'RUNNING'"
        found = store.search(list(dict.fromkeys(experiment_ids)), query)
        self._found_in.update(run.experiment_id for run in found)
        self._has_found = bool(found)
        return found

    def _named_experiments(self, store: _Server | _Client) -> list[str]:
        """Those that variables, or this process's code, have named, or that had a run before."""
        active = getattr(fluent, "_active_experiment_id", None)  # no public call asks no store
        named = sorted(self._found_in)
        if isinstance(active, str | int):
            named.append(str(active))
        if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            named.append(experiment_id)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if name and (by_name := self._ids.get(name) or store.experiment(name)):
            self._ids[name] = by_name
            named.append(by_name)
        return named


def explicit_uri() -> str | None:
    """The tracking URI that was set in this process; None where MLflow's default would be used."""
    return mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None


class _Server(RestRunStore):
    """A tracking server, asked once a call."""

    def search(self, experiment_ids: Sequence[str], query: str) -> list[FoundRun]:
        """The runs of these experiments that match."""
        answer = self._ask(
            "POST",
            "runs/search",
            json={
                "experiment_ids": experiment_ids,
                "filter": query,
                "run_view_type": "ACTIVE_ONLY",
                "max_results": _MOST_RUNS,
                "order_by": _NEWEST_RUNS_FIRST,
            },
        )
        return [
            FoundRun(
                run["info"]["run_id"],
                run["info"]["experiment_id"],
                int(run["info"].get("start_time", 0)),
                {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", ())},
            )
            for run in answer.get("runs", ())
        ]

    def experiments(self) -> list[str]:
        """Those that were changed last."""
        answer = self._ask(
            "POST",
            "experiments/search",
            json={
                "max_results": _EXPERIMENTS,
                "view_type": "ACTIVE_ONLY",
                "order_by": _NEWEST_EXPERIMENTS_FIRST,
            },
        )
        return [each["experiment_id"] for each in answer.get("experiments", ())]

    def experiment(self, name: str) -> str | None:
        """Its id; None while there is no such experiment."""
        try:
            asked = {"experiment_name": name}
            answer = self._ask("GET", "experiments/get-by-name", params=asked)
        except RunNotFound:
            return None
        return str(answer["experiment"]["experiment_id"])


class _Client:
    """A store that MLflow's client reaches itself."""

    def __init__(self, client: MlflowClient, tracking_uri: str) -> None:
        self._client = client
        self._tracking_uri = tracking_uri

    def search(self, experiment_ids: Sequence[str], query: str) -> list[FoundRun]:
        """The runs of these experiments that match."""
        with calling_mlflow(self._tracking_uri):
            runs = self._client.search_runs(
                list(experiment_ids),
                query,
                ViewType.ACTIVE_ONLY,
                _MOST_RUNS,
                _NEWEST_RUNS_FIRST,
            )
        return [
            FoundRun(
                run.info.run_id, run.info.experiment_id, run.info.start_time or 0, run.data.tags
            )
            for run in runs
        ]

    def experiments(self) -> list[str]:
        """Those that were changed last."""
        with calling_mlflow(self._tracking_uri):
            found = self._client.search_experiments(
                ViewType.ACTIVE_ONLY, _EXPERIMENTS, order_by=_NEWEST_EXPERIMENTS_FIRST
            )
        return [each.experiment_id for each in found]

    def experiment(self, name: str) -> str | None:
        """Its id; None while there is no such experiment."""
        with calling_mlflow(self._tracking_uri):
            found = self._client.get_experiment_by_name(name)
        return None if found is None else str(found.experiment_id)


def _open(tracking_uri: str) -> _Server | _Client:
    _check(tracking_uri)
    with calling_mlflow(tracking_uri):
        client = MlflowClient(tracking_uri)
        store = client._tracking_client.store  # noqa: SLF001 - the client shows it nowhere else
    if isinstance(store, RestStore) and type(store).search_runs is RestStore.search_runs:
        return _Server(RunAddress("", tracking_uri, "", active_workspace()), store.get_host_creds)
    return _Client(client, tracking_uri)


def _check(tracking_uri: str) -> None:
    """Look before MLflow's client does, which would make what is missing.

    Raises:
        NoStore: There is no store.
        NotShared: It cannot be used by several hosts.
    """
    scheme = urlsplit(tracking_uri).scheme.lower()
    if scheme.partition("+")[0] in {"sqlite", "postgresql", "mysql", "mssql"}:
        _check_database(tracking_uri)
    elif scheme in {"", "file"} and not tracking_uri.startswith("databricks"):
        path = url2pathname(urlsplit(tracking_uri).path) if scheme else tracking_uri
        if not (Path(path) / ".trash").is_dir():  # which MLflow makes last
            raise NoStore(f"there is no folder of runs {Path(path).absolute()} on this host")


def _check_database(tracking_uri: str) -> None:
    from mlflow.store.db.utils import _verify_schema  # noqa: PLC0415 - as below
    from sqlalchemy import create_engine, inspect  # noqa: PLC0415 - not installed without a database
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - as above
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - as above
    from sqlalchemy.pool import NullPool  # noqa: PLC0415 - as above

    url = make_url(tracking_uri)
    shown = shown_address(tracking_uri)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "").absolute()
        mount = mount_of(os.fspath(path))
        if mount is not None and mount.may_hang:
            raise NotShared(f"{path} is an SQLite database on {mount}, which locks it for no host")
        if not path.is_file():
            raise NoStore(f"there is no database {path} on this host")
    try:
        engine = create_engine(url, poolclass=NullPool)
        if not inspect(engine).has_table("alembic_version"):
            raise NoStore(f"{shown} is no database of MLflow's yet")
        _verify_schema(engine)
    except SQLAlchemyError as error:
        raise StoreFailed.of(error, tracking_uri) from error
    except MlflowException:  # in the making, or another version's
        raise NoStore(f"{shown} does not have the schema of this MLflow") from None
