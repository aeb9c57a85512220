"""Starts, in the ranks of a job, the thread that lets their host be in the run of rank 0."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from mlflow_sysmetrics.distributed.given import is_given_by_hand
from mlflow_sysmetrics.distributed.launchers import is_rank, may_become_rank
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log.isolation import contained
from mlflow_sysmetrics.runs.switch import SYSMONITOR, switched_on

if TYPE_CHECKING:
    from mlflow_sysmetrics.distributed.job import Job

_DELAY_S = 2.0
"""The training's own imports go first: ours would slow them down."""


def start() -> None:
    """Start the thread where this process is a rank, or may become one; returns at once.

    Raises:
        RuntimeError: No thread can be started.
    """
    if is_given_by_hand() or not switched_on(SYSMONITOR):
        return
    if is_rank(os.environ):
        from mlflow_sysmetrics.distributed.this_rank import this_job  # noqa: PLC0415 - in jobs alone

        job = this_job()  # before a child of this process, which inherits the variables, asks
        if job is None or job.rank == 0 or _is_counted_anyway(job):
            return
    elif not may_become_rank(os.environ):
        return
    start_thread("rank", _run)


def _is_counted_anyway(job: Job) -> bool:
    """Whether rank 0 is on this host, and finds this process by their launcher, or is that."""
    is_beside = job.nodes < 2 or job.node == 0  # noqa: PLR2004 - several hosts
    return is_beside and (job.launcher.is_parent or job.rank is None)


def _run() -> None:
    with contained("this host may be missing in the job's run"):
        from mlflow_sysmetrics.host.backoff import jitter  # noqa: PLC0415 - only where there is a job

        time.sleep(_DELAY_S * jitter(1.0, 1.5))
        while _is_being_imported("mlflow"):
            time.sleep(_DELAY_S)
        from mlflow_sysmetrics.runs.rank import follow  # noqa: PLC0415 - heavy

        follow()


def _is_being_imported(module: str) -> bool:
    """Whether another thread is still executing a module."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
