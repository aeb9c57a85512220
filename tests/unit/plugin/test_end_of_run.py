from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.tracking._tracking_service.client import TrackingServiceClient

from mlflow_sysmetrics.plugin import client_patch
from mlflow_sysmetrics.runs import registry

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture


@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
def test_only_the_end_of_mlflows_own_run_is_hastened(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    ending = client_patch._ending(TrackingServiceClient.set_terminated)
    monkeypatch.setattr(TrackingServiceClient, "set_terminated", ending)
    hasten = mocker.patch.object(registry, "begin_to_end")
    shutil.copy(empty_database, tmp_path / "runs.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")

    with mlflow.start_run() as run:
        other = mlflow.MlflowClient().create_run("0")
        mlflow.MlflowClient().set_terminated(other.info.run_id)

    assert {call.args for call in hasten.call_args_list} == {(run.info.run_id,)}
