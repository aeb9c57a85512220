from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.distributed import given, this_rank
from mlflow_sysmetrics.plugin import rank_thread

if TYPE_CHECKING:
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

ON = {"MLFLOW_RUN_CONTEXT_PROVIDER": "sysmetrics,sysmonitor"}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "2",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "MASTER_ADDR": "node-17",
    "MASTER_PORT": "29500",
}
RAY = {
    "RAY_JOB_ID": "01000000",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "NODE_RANK": "0",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "40001",
}
LIGHTNING = {
    "LOCAL_RANK": "1",
    "NODE_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "a",
    "MASTER_PORT": "1",
}


@pytest.fixture
def thread(mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The class of threads, of which none is started."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_SYSTEM_METRICS_NODE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(this_rank, "_this_rank", this_rank._ThisRank())
    monkeypatch.setattr(given._Given, "is_seen", False)
    found: Mock = mocker.patch.object(threading, "Thread")
    return found


@pytest.mark.parametrize(
    "environ",
    [
        ON | TORCHRUN,
        ON | RAY,  # it reports to rank 0
        ON | {"RAY_JOB_ID": "ffffffff"},  # it may become a rank
    ],
)
def test_ranks_that_have_something_to_do_get_a_thread(
    thread: Mock, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    rank_thread.start()

    thread.return_value.start.assert_called_once_with()
    assert thread.call_args.kwargs["daemon"]


@pytest.mark.parametrize(
    "environ",
    [
        ON,
        TORCHRUN,
        ON | TORCHRUN | {"RANK": "0", "GROUP_RANK": "0"},
        ON | TORCHRUN | {"RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0"},
        ON | TORCHRUN | {"RANK": "1", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"},
        ON | LIGHTNING,
        ON | TORCHRUN | {"MLFLOW_RUN_ID": "1234"},
        ON | TORCHRUN | {"MLFLOW_SYSTEM_METRICS_NODE_ID": "node-18"},
    ],
    ids=["no job", "off", "rank 0", "its host", "one host", "Lightning", "run given", "name given"],
)
def test_nothing_else_does(
    thread: Mock, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_CONTEXT_PROVIDER", raising=False)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    rank_thread.start()

    thread.assert_not_called()
