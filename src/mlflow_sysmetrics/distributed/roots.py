"""Where the process tree of a job begins on this host: at the launcher, or at each of its ranks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_sysmetrics.distributed.claim import Claim

if TYPE_CHECKING:
    import psutil

    from mlflow_sysmetrics.distributed.job import Job

_STEP_DAEMON = "slurmstepd"
"""It belongs to root, so that its environment cannot be read."""


def launcher_of(job: Job, pid: int | None = None) -> int | None:
    """The process that started the ranks of this host; None where it starts others, too.

    It is the nearest ancestor without the variables that it gives to its ranks: between them may be
    shells and wrappers.

    Args:
        job: The job.
        pid: A rank; this process where None.
    """
    if job.launcher.name == "torch.multiprocessing.spawn":
        return os.getppid()
    if not job.launcher.is_parent:
        return None
    import psutil  # noqa: PLC0415 - in jobs only: where it is broken, other runs go on

    try:
        ancestors = psutil.Process(pid).parents()
    except psutil.Error:
        return None
    for ancestor in ancestors:
        is_launcher = _starts_ranks(ancestor, job)
        if is_launcher is not False:
            return ancestor.pid if is_launcher else None
    return None


def _starts_ranks(ancestor: psutil.Process, job: Job) -> bool | None:
    """Whether it is the launcher, and no rank or what runs one; None where that is not known."""
    import psutil  # noqa: PLC0415 - as above

    try:
        if ancestor.name() == _STEP_DAEMON:
            return True
        environ = ancestor.environ()
    except (psutil.Error, OSError):
        return None
    return not all(environ.get(name) for name in job.launcher.marks)


class RankRoots:
    """The roots of a job's tree on this host, beside the process that samples.

    That process holds a claim while it samples, to which ranks report that may have no launcher in
    common with it.

    Args:
        job: The job.
        here: The sampling domain of this host.
    """

    def __init__(self, job: Job, here: str) -> None:
        self._job = job
        self._roll = roll_of(job, here)
        launcher = launcher_of(job)
        self._pids = dict.fromkeys([] if launcher is None else [launcher])

    def hold(self) -> bool:
        """Be the one that samples for the job on this host; False while another process is."""
        return self._roll.acquire()

    def release(self) -> None:
        """Let another process be that."""
        self._roll.release()

    def pids(self) -> list[int]:
        """The roots, also those that have ended."""
        for pid in self._roll.visitors():
            self._pids[launcher_of(self._job, pid) or pid] = None
        return list(self._pids)


def roll_of(job: Job, here: str) -> Claim:
    """What the process holds that samples for a job on a host, and where other ranks report."""
    return Claim(here, f"roll of {job.key or os.getppid()}")
