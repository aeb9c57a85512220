from __future__ import annotations

import os
from typing import Any

import pytest

from mlflow_sysmetrics.distributed.job import Job, read_job

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
SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2",
}
MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_orte_num_nodes": "2",
    "PMIX_NAMESPACE": "1141506049",
}
RAY = {
    "RAY_JOB_ID": "01000000",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "NODE_RANK": "1",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "40001",
}
LIGHTNING = {
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "40001",
    "NODE_RANK": "0",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
}
DEEPSPEED = {
    "RANK": "2",
    "LOCAL_RANK": "0",
    "LOCAL_SIZE": "2",
    "WORLD_SIZE": "4",
    "CROSS_RANK": "1",
    "CROSS_SIZE": "2",
    "MASTER_ADDR": "node-17",
    "MASTER_PORT": "29500",
}
FLUX = {
    "FLUX_JOB_ID": "f2Xy",
    "FLUX_TASK_RANK": "1",
    "FLUX_TASK_LOCAL_ID": "1",
    "FLUX_JOB_SIZE": "4",
    "FLUX_JOB_NNODES": "2",
}
INTEL_MPI = {
    "PMI_RANK": "5",
    "PMI_SIZE": "8",
    "MPI_LOCALRANKID": "1",
    "MPI_LOCALNRANKS": "4",
    "PBS_JOBID": "8812.head",
}
KUBEFLOW = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456"}


def job_of(environ: dict[str, str], **more: str) -> Job:
    job = read_job(environ | more)
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (TORCHRUN, ("torchrun", 2, 4, 2, 1, True)),
        (TORCHRUN | SRUN | {"SLURM_PROCID": "0"}, ("torchrun", 2, 4, 2, 1, True)),
        (SRUN, ("srun", 3, 4, 2, 1, False)),
        (MPIRUN, ("Open MPI", 1, 4, 2, 0, True)),
        (RAY, ("Ray Train", 3, 4, 2, 1, True)),
        (LIGHTNING, ("Lightning", None, 2, 1, 0, True)),
        (LIGHTNING | {"LOCAL_RANK": "0"}, ("Lightning", 0, 2, 1, 0, True)),
        (LIGHTNING | {"NODE_RANK": "1", "WORLD_SIZE": "4"}, ("Lightning", None, 4, 2, 1, True)),
        (DEEPSPEED, ("DeepSpeed", 2, 4, 2, 1, True)),
        (FLUX, ("Flux", 1, 4, 2, None, False)),
        (INTEL_MPI, ("MPI (PMI)", 5, 8, 2, 1, True)),
        (KUBEFLOW, ("torch's variables", 1, 2, 1, None, True)),
        (KUBEFLOW | {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ("Kubeflow", 1, 2, 2, 1, True)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_each_launcher_tells_rank_size_hosts_and_host(
    environ: dict[str, str], expected: tuple[Any, ...]
) -> None:
    job = job_of(environ)

    found = (job.launcher.name, job.rank, job.size, job.nodes, job.node, job.recurs)
    assert found == expected


@pytest.mark.parametrize(
    "environ",
    [
        {},
        TORCHRUN | {"WORLD_SIZE": "1"},
        TORCHRUN | {"WORLD_SIZE": "four"},
        {"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},  # a batch script
        SRUN | {"SLURM_STEP_ID": "4294967291"},  # the same, of a newer SLURM
        {"RAY_JOB_ID": "ffffffff"},  # a worker before its training begins
        {"RANK": "0", "WORLD_SIZE": "2"},
    ],
)
def test_a_process_alone_is_in_no_job(environ: dict[str, str]) -> None:
    assert read_job(environ) is None


def test_all_ranks_of_a_job_have_one_key() -> None:
    other_rank = {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}

    assert job_of(TORCHRUN).key == job_of(TORCHRUN, **other_rank).key
    assert job_of(SRUN).key == job_of(SRUN, SLURM_PROCID="0", SLURM_NODEID="0").key


def test_other_jobs_have_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        job_of(TORCHRUN).key,
        job_of(TORCHRUN, MASTER_PORT="29501").key,
        job_of(TORCHRUN, TORCHELASTIC_RUN_ID="mine").key,
        job_of(SRUN).key,
        job_of(SRUN, SLURM_STEP_ID="1").key,
        job_of(RAY).key,
    }
    monkeypatch.setattr(os, "getuid", lambda: 4711, raising=False)
    keys.add(job_of(TORCHRUN).key)

    assert len(keys) == 7


def test_namespaces_of_kubernetes_keep_jobs_of_one_name_apart() -> None:
    pod = TORCHRUN | {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}

    assert job_of(pod, POD_NAMESPACE="one").key != job_of(pod, POD_NAMESPACE="two").key


def test_the_id_none_of_torchrun_names_no_job_and_a_given_one_does() -> None:
    assert job_of(TORCHRUN).recurs
    assert not job_of(TORCHRUN, TORCHELASTIC_RUN_ID="7b1c").recurs


def test_a_restart_that_changes_ranks_and_port_keeps_the_key_where_the_job_has_a_name() -> None:
    first = job_of(TORCHRUN, TORCHELASTIC_RUN_ID="7b1c")
    second = job_of(TORCHRUN, TORCHELASTIC_RUN_ID="7b1c", RANK="0", MASTER_PORT="41234")

    assert first.key == second.key


def test_ranks_without_anything_that_names_their_job_have_no_key() -> None:
    environ = {name: text for name, text in INTEL_MPI.items() if name != "PBS_JOBID"}

    assert job_of(environ).key is None


@pytest.mark.parametrize(
    ("rank", "local_rank", "node"),
    [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1), (6, 0, 3)],
)
def test_hosts_are_numbered_by_their_ranks_where_the_launcher_does_not(
    rank: int, local_rank: int, node: int
) -> None:
    ranks = {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_RANK": str(local_rank)}
    job = job_of(MPIRUN, **ranks, OMPI_COMM_WORLD_SIZE="8", OMPI_MCA_orte_num_nodes="4")

    assert job.node == node


def test_ranks_that_are_dealt_in_turns_have_the_number_of_their_host() -> None:
    ranks = {"OMPI_COMM_WORLD_RANK": "6", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}  # 2 6 | 3 7 | …
    job = job_of(MPIRUN, **ranks, OMPI_COMM_WORLD_SIZE="8", OMPI_MCA_orte_num_nodes="4")

    assert job.node == 2
