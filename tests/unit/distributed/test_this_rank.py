from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from typing import Any

import pytest

from mlflow_sysmetrics.distributed import given, this_rank
from mlflow_sysmetrics.distributed.this_rank import this_job

RANK_0 = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "node-17",
    "MASTER_PORT": "29500",
}
CHILD = """
import json
from mlflow_sysmetrics.distributed import domain
domain.sampling_domain = lambda _host: {domain!r}
from mlflow_sysmetrics.distributed.this_rank import this_job
job = this_job()
print(job and job.rank)
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that knows nothing yet of a job."""
    monkeypatch.setattr(this_rank, "_this_rank", this_rank._ThisRank())
    monkeypatch.setattr(given._Given, "is_seen", False)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_SYSTEM_METRICS_NODE_ID", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name, text in environ.items():
        monkeypatch.setenv(name, text)


def test_outside_of_a_job_there_is_none() -> None:
    assert this_job() is None


def test_variables_that_are_set_late_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_job() is None
    set_all(monkeypatch, RANK_0)

    job = this_job()
    assert job is not None
    assert job.rank == 0


@pytest.mark.parametrize("name", ["MLFLOW_RUN_ID", "MLFLOW_SYSTEM_METRICS_NODE_ID"])
def test_what_is_set_by_hand_is_heeded_also_after_mlflow_has_removed_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    set_all(monkeypatch, RANK_0)
    monkeypatch.setenv(name, "mine")
    assert this_job() is None
    monkeypatch.delenv(name)

    assert this_job() is None


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_forked_child_of_a_rank_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, RANK_0)
    assert this_job() is not None
    monkeypatch.setattr(os, "_exit", os._exit)
    child = os.fork()
    if child == 0:
        this_rank._this_rank.after_fork()  # registered for the one that the fixture replaced
        os._exit(0 if this_job() is None else 1)

    assert os.waitpid(child, 0)[1] == 0


def test_a_program_that_a_rank_starts_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow_sysmetrics.distributed import domain  # noqa: PLC0415 - as this test has it
    from mlflow_sysmetrics.host.host import Host  # noqa: PLC0415 - as above

    set_all(monkeypatch, RANK_0)
    assert this_job() is not None
    script = CHILD.format(domain=domain.sampling_domain(Host()))

    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    other = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"RANK": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert child.stdout == "None\n"
    assert other.stdout == "1\n"


def test_torchs_spawn_sets_no_variables_and_is_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def target() -> None:
        pass

    target.__module__ = "torch.multiprocessing.spawn"

    class Process:
        _target: Any = target
        _args = (print, 0, (), "errors")

    monkeypatch.setattr(multiprocessing, "current_process", Process)

    job = this_job()
    assert job is not None
    assert (job.rank, job.nodes, job.key) == (0, 1, None)


def test_lightnings_rank_0_knows_of_other_hosts_where_its_own_number_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lightning = {"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "a"}
    set_all(monkeypatch, lightning | {"MASTER_PORT": "1"})
    job = this_job()
    assert job is not None
    assert job.nodes == 1

    monkeypatch.setattr(this_rank, "_is_told_its_node", lambda: True)
    job = this_job()
    assert job is not None
    assert job.nodes == 2
