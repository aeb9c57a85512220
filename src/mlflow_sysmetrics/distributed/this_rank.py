"""The job of this very process, if it is one of the job's ranks and nothing was set by hand.

The children of a rank (data loaders, a Pool's workers, commands) inherit its variables and are no
ranks. So the first process of a host that says it is a certain rank holds a claim on that.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from dataclasses import replace
from typing import Any

from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.distributed.claim import Claim
from mlflow_sysmetrics.distributed.given import is_given_by_hand
from mlflow_sysmetrics.distributed.job import Job, read_job
from mlflow_sysmetrics.distributed.launchers import Launcher
from mlflow_sysmetrics.host.forks import after_fork_in_child
from mlflow_sysmetrics.host.host import Host

_SPAWN = Launcher("torch.multiprocessing.spawn", (), (), (), ())


class _ThisRank:
    """What is known of this process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._claim: Claim | None = None
        self._is_rank: bool | None = None

    def job(self) -> Job | None:
        if is_given_by_hand():
            return None
        job = read_job(os.environ)
        if job is None:
            return _spawned_job()
        if not self._claim_rank(job):
            return None
        if job.launcher.name == "Lightning" and job.rank == 0 and _is_told_its_node():
            return replace(job, nodes=max(2, job.nodes))
        return job

    def _claim_rank(self, job: Job) -> bool:
        """Whether this process is the rank that its variables say."""
        with self._lock:
            if self._is_rank is None:
                what = f"rank {_name_of_rank(job)} of {job.key}"
                claim = Claim(domain.sampling_domain(Host()), what)
                self._is_rank = claim.acquire()
                self._claim = claim if self._is_rank else None
            return self._is_rank

    def after_fork(self) -> None:
        """A child of a rank is none, though it might become one of another job."""
        self._lock = threading.RLock()
        self._is_rank = self._claim = None


_this_rank = _ThisRank()

after_fork_in_child(_this_rank.after_fork)


def this_job() -> Job | None:
    """The job that this process is a rank of, as its variables say now.

    None where it is none, or where a run's id or a node's name was set by hand.
    """
    return _this_rank.job()


def _name_of_rank(job: Job) -> str:
    """What tells a rank from the others of its job on this host."""
    return str(job.rank) if job.rank is not None else f"local {os.environ.get('LOCAL_RANK')}"


def _spawned_job() -> Job | None:
    """The job of `torch.multiprocessing.spawn`, which sets no variables."""
    process: Any = multiprocessing.current_process()  # which keeps what it runs, as its own
    target = getattr(process, "_target", None)
    arguments: tuple[Any, ...] = getattr(process, "_args", ())
    if getattr(target, "__module__", "") != "torch.multiprocessing.spawn" or len(arguments) < 2:  # noqa: PLR2004 - function and rank
        return None
    rank = arguments[1]
    if not isinstance(rank, int):
        return None
    return Job(_SPAWN, rank, size=2, nodes=1, node=0, key=None, recurs=True)


def _is_told_its_node() -> bool:
    """Whether the number of this host was there as the process began, so that there are others."""
    import psutil  # noqa: PLC0415 - this module is imported with MLflow

    try:
        return "NODE_RANK" in psutil.Process().environ()
    except psutil.Error:
        return False
