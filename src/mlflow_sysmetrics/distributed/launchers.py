"""What launchers tell a process of its job, as a table; an inner launcher comes before an outer.

Read in the sources of torch, Ray, Lightning, DeepSpeed, Open MPI, SLURM, Flux and PALS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "PALS_APID", "FLUX_JOB_ID")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launcher:
    """The variables of one launcher; where it has several for one thing, the first that is set.

    Attributes:
        name: For messages.
        marks: All of these are set where it has started the process.
        unless: Values of them with which it has not.
        absent: None of these is set then.
        rank: Number of the process in the job.
        local_rank: Number of the process on its host.
        size: Processes of the job.
        local_size: Processes of the job on this host.
        node: Number of the host; empty where the launcher has none.
        nodes: Number of hosts; as above.
        ids: Together they name the job, and no other job ever has the same.
        recurring_ids: Where those are not set. They name the job among those of one time: a later
            one, or one elsewhere, may have the same.
        no_ids: Values that name no job.
        is_parent: Whether an ancestor of all ranks of a host starts nothing else.
    """

    name: str
    marks: tuple[str, ...]
    rank: tuple[str, ...]
    local_rank: tuple[str, ...]
    size: tuple[str, ...]
    local_size: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    recurring_ids: tuple[str, ...] = ()
    no_ids: tuple[str, ...] = ()
    is_parent: bool = True
    unless: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def has_started(self, environ: Mapping[str, str]) -> bool:
        """Whether the variables are there."""
        if any(name in environ for name in self.absent):
            return False
        return all(environ.get(name, "") not in {"", *self.unless} for name in self.marks)


LAUNCHERS = (
    Launcher(
        "torchrun",
        marks=("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"),
        rank=("RANK",),
        local_rank=("LOCAL_RANK",),
        size=("WORLD_SIZE",),
        local_size=("LOCAL_WORLD_SIZE",),
        node=("GROUP_RANK",),
        nodes=("GROUP_WORLD_SIZE",),
        ids=("TORCHELASTIC_RUN_ID",),
        recurring_ids=_ADDRESS,
        no_ids=("none",),  # unless torchrun is given an --rdzv-id
    ),
    Launcher(
        "Ray Train",  # sets them after the worker has started
        marks=("RAY_JOB_ID", "RANK", "WORLD_SIZE", "NODE_RANK"),
        rank=("RANK",),
        local_rank=("LOCAL_RANK",),
        size=("WORLD_SIZE",),
        local_size=("LOCAL_WORLD_SIZE",),
        node=("NODE_RANK",),
        recurring_ids=("RAY_JOB_ID", *_ADDRESS),
        is_parent=False,  # the raylet starts the workers of all jobs
    ),
    Launcher(
        "DeepSpeed",
        marks=("CROSS_RANK", "CROSS_SIZE", "RANK", "WORLD_SIZE"),
        rank=("RANK",),
        local_rank=("LOCAL_RANK",),
        size=("WORLD_SIZE",),
        local_size=("LOCAL_SIZE",),
        node=("CROSS_RANK",),
        nodes=("CROSS_SIZE",),
        recurring_ids=_ADDRESS,
    ),
    Launcher(
        "Lightning",  # rank 0 has LOCAL_RANK and WORLD_SIZE once it has started the others
        marks=("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"),
        rank=(),
        local_rank=("LOCAL_RANK",),
        size=("WORLD_SIZE",),
        node=("NODE_RANK",),
        recurring_ids=_ADDRESS,
        is_parent=False,  # rank 0 starts the others itself
    ),
    Launcher(
        "Open MPI",
        marks=("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        rank=("OMPI_COMM_WORLD_RANK",),
        local_rank=("OMPI_COMM_WORLD_LOCAL_RANK",),
        size=("OMPI_COMM_WORLD_SIZE",),
        local_size=("OMPI_COMM_WORLD_LOCAL_SIZE",),
        nodes=("OMPI_MCA_orte_num_nodes",),
        recurring_ids=("PMIX_NAMESPACE",),
    ),
    Launcher(
        "MVAPICH",
        marks=("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
        rank=("MV2_COMM_WORLD_RANK",),
        local_rank=("MV2_COMM_WORLD_LOCAL_RANK",),
        size=("MV2_COMM_WORLD_SIZE",),
        local_size=("MV2_COMM_WORLD_LOCAL_SIZE",),
        recurring_ids=_SCHEDULERS,
    ),
    Launcher(
        "srun",
        marks=("SLURM_STEP_ID", "SLURM_JOB_ID", "SLURM_PROCID", "SLURM_NTASKS"),
        rank=("SLURM_PROCID",),
        local_rank=("SLURM_LOCALID",),
        size=("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        node=("SLURM_NODEID",),
        nodes=("SLURM_STEP_NUM_NODES", "SLURM_NNODES"),
        ids=("SLURM_JOB_ID", "SLURM_STEP_ID"),
        unless=("4294967290", "4294967291", "4294967292"),  # interactive, batch script, extern
    ),
    Launcher(
        "PALS",
        marks=("PALS_RANKID", "PALS_APID"),
        rank=("PALS_RANKID",),
        local_rank=("PALS_LOCAL_RANKID",),
        size=("PALS_SIZE", "PMI_SIZE"),
        local_size=("PALS_LOCAL_SIZE", "PMI_LOCAL_SIZE"),
        node=("PALS_NODEID",),
        ids=("PALS_APID",),
    ),
    Launcher(
        "Flux",
        marks=("FLUX_TASK_RANK", "FLUX_JOB_ID"),
        rank=("FLUX_TASK_RANK",),
        local_rank=("FLUX_TASK_LOCAL_ID",),
        size=("FLUX_JOB_SIZE",),
        nodes=("FLUX_JOB_NNODES",),
        ids=("FLUX_JOB_ID",),
    ),
    Launcher(
        "jsrun",
        marks=("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),
        rank=("JSM_NAMESPACE_RANK",),
        local_rank=("JSM_NAMESPACE_LOCAL_RANK",),
        size=("JSM_NAMESPACE_SIZE",),
        local_size=("JSM_NAMESPACE_LOCAL_SIZE",),
        recurring_ids=("LSB_JOBID",),  # of all its steps
    ),
    Launcher(
        "MPI (PMI)",  # MPICH, Intel MPI
        marks=("PMI_RANK", "PMI_SIZE"),
        rank=("PMI_RANK",),
        local_rank=("MPI_LOCALRANKID",),
        size=("PMI_SIZE",),
        local_size=("MPI_LOCALNRANKS",),
        recurring_ids=_SCHEDULERS,
    ),
    Launcher(
        "Kubeflow",  # one process a pod
        marks=("RANK", "WORLD_SIZE", *_ADDRESS, "KUBERNETES_SERVICE_HOST"),
        rank=("RANK",),
        local_rank=(),
        size=("WORLD_SIZE",),
        node=("RANK",),
        nodes=("WORLD_SIZE",),
        recurring_ids=_ADDRESS,
        is_parent=False,
        absent=("LOCAL_RANK",),
    ),
    Launcher(
        "torch's variables",  # set by hand, or by launchers that are unknown
        marks=("RANK", "WORLD_SIZE", *_ADDRESS),
        rank=("RANK",),
        local_rank=("LOCAL_RANK",),
        size=("WORLD_SIZE",),
        local_size=("LOCAL_WORLD_SIZE",),
        node=("NODE_RANK",),
        nodes=("NNODES",),
        recurring_ids=_ADDRESS,
        is_parent=False,
    ),
)


def is_rank(environ: Mapping[str, str]) -> bool:
    """Whether a launcher has set its variables."""
    return any(launcher.has_started(environ) for launcher in LAUNCHERS)


def may_become_rank(environ: Mapping[str, str]) -> bool:
    """Whether a launcher may set its variables later: so does Ray Train."""
    return "RAY_JOB_ID" in environ
