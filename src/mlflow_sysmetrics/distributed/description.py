"""The job of this process, in words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.distributed.given import is_given_by_hand
from mlflow_sysmetrics.distributed.job import read_job
from mlflow_sysmetrics.distributed.roots import roll_of
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from mlflow_sysmetrics.distributed.job import Job


def describe_job() -> str | None:
    """Which job this process belongs to, and who samples on this host; None outside of one."""
    job = read_job(os.environ)
    if job is None:
        return None
    place = f"a job of {job.launcher.name} with {job.size} processes"
    if job.rank is not None:
        place = f"rank {job.rank} of {place}"
    if job.nodes > 1:
        place += f" on {job.nodes} hosts"
        place += f", on host {job.node}" if job.node is not None else ""
    return f"this process is {place}; {_who_samples(job)}"


def _who_samples(job: Job) -> str:
    if Settings.from_env().distributed == "off":
        return "MLFLOW_SYSMETRICS_DISTRIBUTED=off keeps it to rank 0's own process and host"
    if is_given_by_hand():
        return "its run or its host's name is set by hand, so that nothing is automatic"
    holder = roll_of(job, domain.sampling_domain(Host())).holder()
    if holder is not None:
        return f"process {holder} samples on this host"
    if job.nodes > 1 and job.key is None:
        return "nothing in the environment names the job, so that other hosts do not find its run"
    return "nobody samples on this host now"
