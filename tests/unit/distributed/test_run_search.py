"""Searches in real stores: files, SQLite, and a tracking server."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.tracking import MlflowClient, fluent

from mlflow_sysmetrics.distributed import run_search
from mlflow_sysmetrics.distributed.job import JOB_TAG
from mlflow_sysmetrics.distributed.run_search import NoStore, NotShared, RunSearch
from mlflow_sysmetrics.host.mounts import Mount

if TYPE_CHECKING:
    from pathlib import Path

TAGS = {JOB_TAG: "0123456789abcdef.aaaaaa000001", "other": "tag"}
KEY = "0123456789abcdef"

# MLflow's own, with the newest SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning")


@pytest.fixture(params=["files", "sqlite"])
def uri(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    if request.param == "files":
        MlflowClient(f"file://{tmp_path}/mlruns").search_experiments()
        return f"file://{tmp_path}/mlruns"
    shutil.copy(empty_database, tmp_path / "runs.db")
    return f"sqlite:///{tmp_path}/runs.db"


def test_open_runs_of_the_job_are_found_the_last_first(uri: str) -> None:
    client = MlflowClient(uri)
    first = client.create_run("0", start_time=1000, tags=TAGS).info.run_id
    second = client.create_run("0", start_time=2000, tags=TAGS).info.run_id
    ended = client.create_run("0", tags=TAGS).info.run_id
    client.set_terminated(ended)
    client.create_run("0", tags={JOB_TAG: "fedcba9876543210.aaaaaa000001"})
    client.create_run("0")

    found = RunSearch(uri).find(KEY)

    assert [run.run_id for run in found] == [second, first]
    assert found[1].start_ms == 1000
    assert found[1].leader == "aaaaaa000001"
    assert found[1].tags["other"] == "tag"


def test_an_experiment_that_is_named_is_searched(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(uri)
    experiment_id = client.create_experiment("mine")
    run_id = client.create_run(experiment_id, tags=TAGS).info.run_id
    monkeypatch.setattr(run_search, "_EXPERIMENTS", 0)
    for name, value in (
        ("MLFLOW_EXPERIMENT_ID", experiment_id),
        ("MLFLOW_EXPERIMENT_NAME", "mine"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            search = RunSearch(uri)
            monkeypatch.setattr(search, "_widely_s", float("inf"))

            assert [run.run_id for run in search.find(KEY)] == [run_id]


def test_the_id_of_an_experiment_is_asked_for_once(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    MlflowClient(uri).create_experiment("mine")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    real = MlflowClient.get_experiment_by_name

    def ask(client: MlflowClient, name: str) -> object:
        asked.append(name)
        return real(client, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", ask)
    search = RunSearch(uri)
    for _ in range(3):
        search.find(KEY)

    assert asked == ["mine"]


def test_without_a_name_the_experiments_changed_last_are_searched_once_a_minute(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "not there yet")
    client = MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("mine"), tags=TAGS).info.run_id
    search = RunSearch(uri)

    assert [run.run_id for run in search.find(KEY)] == [run_id]
    # Where a run was found, it is looked for from then on.
    assert [run.run_id for run in search.find(KEY)] == [run_id]
    assert search.experiments == "the experiments that are named"


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for uri in (f"sqlite:///{tmp_path}/none.db", f"file://{tmp_path}/none", f"{tmp_path}/none"):
        with pytest.raises(NoStore):
            RunSearch(uri).find(KEY)

    assert not list(tmp_path.iterdir())


def test_a_database_in_the_making_is_left_to_who_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.touch()

    with pytest.raises(NoStore):
        RunSearch(f"sqlite:///{path}").find(KEY)

    assert not path.stat().st_size


def test_a_database_of_another_version_is_not_migrated(
    tmp_path: Path, empty_database: Path
) -> None:
    import sqlite3  # noqa: PLC0415 - for this test alone

    path = tmp_path / "runs.db"
    shutil.copy(empty_database, path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    database.close()

    with pytest.raises(NoStore, match="schema"):
        RunSearch(f"sqlite:///{path}").find(KEY)


def test_sqlite_on_a_network_is_not_used(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, tmp_path / "runs.db")
    nfs = Mount("1", "0", "0:1", "/home", "nfs4")
    monkeypatch.setattr(run_search, "mount_of", lambda _path: nfs)

    with pytest.raises(NotShared, match=r"the file system at /home \(nfs4\)"):
        RunSearch(f"sqlite:///{tmp_path}/runs.db").find(KEY)


def test_only_a_tracking_uri_that_was_set_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(mlflow, "is_tracking_uri_set", lambda: False)
    assert run_search.explicit_uri() is None

    monkeypatch.setattr(mlflow, "is_tracking_uri_set", lambda: True)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://server")
    assert run_search.explicit_uri() == "http://server"
