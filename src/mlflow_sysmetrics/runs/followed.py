"""The run that rank 0 opened on another host, sampled on this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.distributed.follower_keys import FOLLOWER_GLOBS
from mlflow_sysmetrics.distributed.leader import node_id
from mlflow_sysmetrics.distributed.nodes import describe_node, tags_of_node
from mlflow_sysmetrics.distributed.roots import RankRoots
from mlflow_sysmetrics.facts import host_tags
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from mlflow_sysmetrics.distributed.job import Job
    from mlflow_sysmetrics.distributed.run_search import FoundRun


class HostSampling:
    """Samples this host, with all ranks that it has, for runs of another host.

    Args:
        job: The job.
        collectors: Who is asked; None for those of this host and its ranks.

    Attributes:
        here: The sampling domain of this host.
    """

    def __init__(self, job: Job, collectors: CollectorSet | None = None) -> None:
        self.here = domain.sampling_domain(Host())
        self._job = job
        self._roots = RankRoots(job, self.here)
        self._collectors = collectors or CollectorSet(Host(more_roots=self._roots.pids))
        self._is_held = False

    def join(self, run: FoundRun, number: int, tracking_uri: str) -> registry.OpenRun | None:
        """Begin to sample for a run; None where another process of this host does.

        Raises:
            RuntimeError: No thread can be started (interpreter shutdown).
        """
        self._is_held = self._is_held or self._roots.hold()
        if not self._is_held:
            return None
        request = registry.RunRequest(
            run.run_id,
            tracking_uri,
            settings_of_follower(number),
            resumed=True,
            collectors=self._collectors,
            is_of_other_host=True,
            nodes=self._job.nodes,
            has_own_keys=number == self._job.node,
            tags=tags_of_node(number, describe_node(host_tags(), self.here), run.tags),
        )
        return registry.open_run(request)

    def release(self) -> None:
        """Let another process of this host be the one that samples, while no run is joined."""
        if self._is_held:
            self._is_held = False
            self._roots.release()


def settings_of_follower(number: int) -> Settings:
    """The settings in force on a host that is not rank 0's.

    What the user includes is logged; else, unless everything is wanted, the main metrics.
    """
    settings = Settings.from_env().overridden(node_id=node_id(number))
    if settings.distributed == "all" or settings.include:
        return settings
    return settings.overridden(include=",".join(FOLLOWER_GLOBS))
