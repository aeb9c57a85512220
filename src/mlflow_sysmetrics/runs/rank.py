"""What a rank does that opens no run: it reports to who samples on its host, or follows."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import psutil
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.distributed.claim import Claim
from mlflow_sysmetrics.distributed.follower import Follower
from mlflow_sysmetrics.distributed.launchers import may_become_rank
from mlflow_sysmetrics.distributed.pauses import GIVE_UP_S
from mlflow_sysmetrics.distributed.roots import launcher_of, roll_of
from mlflow_sysmetrics.distributed.run_search import explicit_uri
from mlflow_sysmetrics.distributed.this_rank import this_job
from mlflow_sysmetrics.host.forks import CallLock, ForkOrder, hold_during_fork
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.runs.followed import HostSampling
from mlflow_sysmetrics.runs.switch import SYSMONITOR, switched_on
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    import socket

    from mlflow_sysmetrics.distributed.job import Job
    from mlflow_sysmetrics.sampling.runners import CollectorSet

_LOCAL_S = 5.0
"""Between two looks at what happens on this host alone: another rank takes over so soon."""


class RankFollower:
    """What one rank does for the run of its job, step by step.

    Of the ranks of a host one is elected to look for the run. The others report to the process that
    samples, so that their trees count, and one of them takes over when the elected one ends.

    Args:
        job: The job.
        collectors: Who is asked; None for those of this host and its ranks.

    Attributes:
        busy: Held while it calls into libraries; a fork waits for it.
        is_stopped: Whether there is nothing more to do.
    """

    def __init__(self, job: Job, collectors: CollectorSet | None = None) -> None:
        self.is_stopped = False
        self.busy = CallLock()
        self._job = job
        here = domain.sampling_domain(Host())
        self._roll = roll_of(job, here)
        self._election = Claim(here, f"follower of {job.key}")
        self._is_elected = False
        self._had_run = False
        self._look_s = 0.0
        self._reported: socket.socket | None = None
        self._sampling = HostSampling(job, collectors)
        self._follower = Follower(job, _launched_ms(job), self._sampling, explicit_uri)
        hold_during_fork(self, ForkOrder.FOLLOWER)

    def step(self) -> float | None:
        """Do what is to be done now.

        Returns:
            After how many seconds to do the next step; None where it is over.
        """
        if self.is_stopped:
            return None
        had_run, self._had_run = self._had_run, self._follower.has_run
        if not self._had_run:
            self._sampling.release()
            if self._has_reported():
                return _LOCAL_S
            if not is_of_other_host(self._job):
                return None if self._job.launcher.is_parent else _LOCAL_S
            self._is_elected = self._is_elected or self._election.acquire()
        has_ended = had_run and not self._had_run
        now_s = time.monotonic()
        if not self._is_elected or (now_s < self._look_s and not has_ended):
            return _LOCAL_S
        pause_s = self._follower.look()
        if pause_s is None:
            return None
        self._look_s = now_s + pause_s
        self._had_run = self._follower.has_run
        return min(pause_s, _LOCAL_S)

    def run(self) -> None:
        """Do one step after the other until that is over."""
        while True:
            with self.busy:
                pause_s = self.step()
            if pause_s is None:
                return
            time.sleep(pause_s)

    def _has_reported(self) -> bool:
        """Whether the process that samples has been told of this one, and still lives."""
        if self._reported is not None:
            try:
                self._reported.recv(1)
            except BlockingIOError:
                return True
            except OSError:
                pass
            self._reported.close()
        self._reported = self._roll.visit()
        return self._reported is not None


def _launched_ms(job: Job) -> int:
    """When the launcher of this host started; where it is not known, this process."""
    try:
        return round(psutil.Process(launcher_of(job)).create_time() * 1000)
    except psutil.Error:
        return round(time.time() * 1000)


def follow() -> None:
    """Do what this process has to do as a rank of a job; returns when that is over."""
    began_s = time.monotonic()
    while (job := this_job()) is None:
        if not may_become_rank(os.environ) or time.monotonic() - began_s > GIVE_UP_S:
            return
        time.sleep(_LOCAL_S)
    if job.rank == 0 or not _is_wanted():
        return
    RankFollower(job).run()


def is_of_other_host(job: Job) -> bool:
    """Whether this process may be on another host than rank 0, and can find the run."""
    return job.nodes > 1 and job.node != 0 and job.rank != 0 and job.key is not None


def _is_wanted() -> bool:
    return (
        Settings.from_env().distributed != "off"
        and switched_on(SYSMONITOR)
        and MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() is not False
    )
