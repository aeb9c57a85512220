from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.facts.scheduler import read_gpu_allocation, read_kubernetes, read_slurm
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "trainer-0"}


def test_a_pod_whose_spec_passes_nothing_on_has_no_names(tmp_path: Path) -> None:
    tags = read_kubernetes(Host(root=tmp_path, system="Linux", environ=IN_POD))

    assert tags == {"sys.k8s_pod": "", "sys.k8s_namespace": "", "sys.k8s_node": ""}


@pytest.mark.parametrize("prefix", ["", "MY_", "K8S_"])
def test_what_the_pods_spec_passes_on_goes_first(prefix: str, tmp_path: Path) -> None:
    passed_on = {
        f"{prefix}POD_NAME": "pod",
        f"{prefix}POD_NAMESPACE": "namespace",
        f"{prefix}NODE_NAME": "node",
    }

    tags = read_kubernetes(Host(root=tmp_path, system="Linux", environ=IN_POD | passed_on))

    assert tags == {
        "sys.k8s_pod": "pod",
        "sys.k8s_namespace": "namespace",
        "sys.k8s_node": "node",
    }


def test_outside_kubernetes_these_variables_are_someone_elses(tmp_path: Path) -> None:
    environ = {"HOSTNAME": "laptop", "NODE_NAME": "jenkins-7"}

    with pytest.raises(Unavailable, match="Kubernetes"):
        read_kubernetes(Host(root=tmp_path, system="Linux", environ=environ))


def test_a_slurm_job_is_told_by_its_environment(tmp_path: Path) -> None:
    environ = {"SLURM_JOB_ID": "412077", "SLURM_JOB_NODELIST": "node[01-04]"}

    tags = read_slurm(Host(root=tmp_path, system="Linux", environ=environ))

    assert tags == {
        "sys.slurm_job_id": "412077",
        "sys.slurm_nodelist": "node[01-04]",
        "sys.slurm_partition": "",
    }


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"SLURM_JOB_GPUS": "0,1"}, "SLURM_JOB_GPUS"),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-8932f937-d72c-4106"}, "NVIDIA_VISIBLE_DEVICES"),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, ""),  # as images have it of their own
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, ""),
        ({}, ""),
    ],
)
def test_who_gave_the_gpus_is_told_by_the_environment(
    environ: dict[str, str], variable: str, tmp_path: Path
) -> None:
    tags = read_gpu_allocation(Host(root=tmp_path, system="Linux", environ=environ))

    assert tags == {"sysmetrics.gpu_allocation": variable}


def test_with_the_metrics_of_all_gpus_nobody_knows_which_were_given(tmp_path: Path) -> None:
    environ = {"SLURM_JOB_GPUS": "0", "MLFLOW_SYSMETRICS_GPUS": "all"}

    assert read_gpu_allocation(Host(root=tmp_path, system="Linux", environ=environ)) == {}
