"""What placed the process here, and gave it its GPUs: Kubernetes or SLURM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.settings import Settings
from mlflow_sysmetrics.sources.container import SERVICE_ACCOUNT, is_in_kubernetes

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

# A pod's spec may pass these on through the downward API, under whatever name; these are usual.
_POD = ("POD_NAME", "MY_POD_NAME", "K8S_POD_NAME")
_NAMESPACE = ("POD_NAMESPACE", "MY_POD_NAMESPACE", "K8S_POD_NAMESPACE", "K8S_NAMESPACE")
_NODE = ("NODE_NAME", "MY_NODE_NAME", "K8S_NODE_NAME")

_HOSTS_FILE_OF_A_POD = "# Kubernetes-managed hosts file."
"""Its first line; of a pod in the node's network it goes on with `(host network)`."""

# What the API server ends a name with that it generates, from letters that it takes for that alone.
_GENERATED = re.compile(r".*-[bcdfghjklmnpqrstvwxz2456789]{5}")
_LONGEST_HOST_NAME = 63

_SLURM_TAGS = {
    "sys.slurm_job_id": "SLURM_JOB_ID",
    "sys.slurm_nodelist": "SLURM_JOB_NODELIST",
    "sys.slurm_partition": "SLURM_JOB_PARTITION",
}

_GPU_ALLOCATIONS = (
    "SLURM_STEP_GPUS",
    "SLURM_JOB_GPUS",
    "SLURM_GPUS_ON_NODE",
    "_CONDOR_AssignedGPUs",
    "NVIDIA_VISIBLE_DEVICES",
)
_NO_ALLOCATION = ("", "all", "none", "void")
"""What NVIDIA's variable holds where nobody chose GPUs for the process."""


def read_gpu_allocation(host: Host) -> dict[str, str]:
    """The variable by which the process was given its GPUs, where their metrics are of these."""
    if Settings.from_env(host.environ).gpus == "all":
        return {}
    given = (name for name in _GPU_ALLOCATIONS if _gives_gpus(host.environ.get(name, "")))
    return {"sysmetrics.gpu_allocation": next(given, "")}


def _gives_gpus(value: str) -> bool:
    return value.strip().lower() not in _NO_ALLOCATION


def read_kubernetes(host: Host) -> dict[str, str]:
    """Pod, namespace and node; what the pod's spec does not pass on is left out.

    Raises:
        Unavailable: Outside Kubernetes.
    """
    if not is_in_kubernetes(host):
        raise Unavailable("not in Kubernetes")
    return {
        "sys.k8s_pod": _first_set(host, _POD) or _pod_by_host_name(host),
        "sys.k8s_namespace": _first_set(host, _NAMESPACE)
        or host.read_text_or_empty(f"{SERVICE_ACCOUNT}/namespace"),
        "sys.k8s_node": _first_set(host, _NODE),
    }


def read_slurm(host: Host) -> dict[str, str]:
    """Job, nodes and partition, from the variables that SLURM sets; none outside a job."""
    return {tag: host.environ.get(name, "") for tag, name in _SLURM_TAGS.items()}


def _pod_by_host_name(host: Host) -> str:
    """The pod's name where its host name is known to be that; else empty.

    In the node's network the host name is the node's, from 63 characters on it may be cut, and
    the spec, or an indexed job, may set another: only a generated name is certainly the pod's.
    """
    name = host.environ.get("HOSTNAME", "")
    if host.read_text_or_empty("etc/hosts").partition("\n")[0].strip() != _HOSTS_FILE_OF_A_POD:
        return ""
    return name if len(name) < _LONGEST_HOST_NAME and _GENERATED.fullmatch(name) else ""


def _first_set(host: Host, names: tuple[str, ...]) -> str:
    return next(filter(None, (host.environ.get(name, "") for name in names)), "")
