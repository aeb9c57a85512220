"""What rank 0 puts on its run, so that the other hosts of its job find it."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.distributed.job import JOB_TAG
from mlflow_sysmetrics.distributed.nodes import describe_node, short_id, tags_of_node
from mlflow_sysmetrics.distributed.roots import RankRoots, roll_of
from mlflow_sysmetrics.distributed.this_rank import this_job
from mlflow_sysmetrics.facts import host_tags
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.settings import Settings, matches_any

if TYPE_CHECKING:
    from mlflow_sysmetrics.distributed.job import Job


def led_job(settings: Settings) -> Job | None:
    """The job on several hosts whose run this process opens; None where it leads none."""
    job = None if settings.distributed == "off" else this_job()
    if job is None or job.rank != 0 or job.nodes < 2 or job.key is None:  # noqa: PLR2004 - several
        return None
    return job


def with_node(settings: Settings, *, is_shared: bool = False) -> Settings:
    """The settings of a run that this process opens, with its number in a job on several hosts.

    Args:
        settings: In force otherwise.
        is_shared: Whether the run was there before, so that other ranks may have opened it, too:
            then all of a host have its number.
    """
    job = led_job(settings)
    if job is None and is_shared and settings.distributed != "off":
        job = this_job()
    if job is None or job.nodes < 2 or (job.node is None and job.rank != 0):  # noqa: PLR2004 - several
        return settings
    return settings.overridden(node_id=node_id(job.node or 0))


def nodes_of(settings: Settings) -> int:
    """How many hosts log to a run with these settings; 1 where that is not known."""
    job = this_job() if settings.node_id else None
    return 1 if job is None else job.nodes


def node_id(number: int) -> str:
    """What stands in the keys of a host."""
    return f"node_{number}"


def tags_of_led_job() -> dict[str, str]:
    """The tags by which the other hosts find the run that this process is about to open."""
    settings = Settings.from_env()
    job = led_job(settings)
    if job is None:
        return {}
    here = domain.sampling_domain(Host())
    tags = {
        JOB_TAG: f"{job.key}.{leader_id(here)}",
        **tags_of_node(job.node or 0, describe_node(host_tags(), here), {}),
    }
    return {key: tag for key, tag in tags.items() if not matches_any(key, settings.exclude_tags)}


def tag_of_resumed_run(settings: Settings) -> dict[str, str]:
    """The tag by which the other hosts find a run that this process resumes."""
    job = led_job(settings)
    if job is None or matches_any(JOB_TAG, settings.exclude_tags):
        return {}
    return {JOB_TAG: f"{job.key}.{leader_id(domain.sampling_domain(Host()))}"}


def leader_id(here: str) -> str:
    """Tells this process from others that open a run of a job with the same key.

    It begins with digits of the host's, so that two on one host can be told from two on several.
    """
    import psutil  # noqa: PLC0415 - in jobs only: where it is broken, other runs go on

    started = f"{os.getpid()} {psutil.Process().create_time()}"
    return f"{short_id(here)}{hashlib.sha256(started.encode()).hexdigest()[:6]}"


def host_of(leader: str) -> str:
    """The part of a leader's id that is its host's."""
    return leader[: len(short_id(leader))]


def counts_this_rank(pid: int | None) -> bool:
    """Whether a process of this host samples for this one's job, with all ranks."""
    job = this_job()
    if job is None or pid is None:
        return False
    return roll_of(job, domain.sampling_domain(Host())).holder() == pid


def host_with_ranks() -> Host:
    """This host, with the trees of all its ranks where this process is rank 0 of a job."""
    job = None if Settings.from_env().distributed == "off" else this_job()
    if job is None or job.rank != 0:
        return Host()
    roots = RankRoots(job, domain.sampling_domain(Host()))
    roots.hold()
    return Host(more_roots=roots.pids)
