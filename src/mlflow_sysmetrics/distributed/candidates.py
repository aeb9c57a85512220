"""Which of the open runs that carry a job's key are the job's: a key may be another one's, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.distributed.leader import host_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.distributed.job import Job
    from mlflow_sysmetrics.distributed.run_search import FoundRun

EARLY_MS = 120_000
"""Hosts do not start at the same time, nor do their clocks agree: a run may seem to have begun so
long before the launcher of another host."""


class AmbiguousRuns(Exception):  # noqa: N818 - a state of the store, not an error of ours
    """Several jobs have the same key at the same time."""


def runs_of_job(
    found: Sequence[FoundRun], job: Job, launched_ms: int, host: str | None = None
) -> list[FoundRun]:
    """The runs of the process that opened one last; those of its predecessors have no end.

    Args:
        found: The open runs with the job's key.
        job: The job.
        launched_ms: When the launcher of this host started.
        host: Digits of the host whose run was joined before; None where there is none.

    Raises:
        AmbiguousRuns: The key may be another job's, and several hosts have opened runs.
    """
    if job.recurs:
        found = [run for run in found if run.start_ms >= launched_ms - EARLY_MS]
        found = [run for run in found if host in {None, host_of(run.leader)}]
        if len({host_of(run.leader) for run in found}) > 1:
            raise AmbiguousRuns(", ".join(run.run_id for run in found))
    if not found:
        return []
    leader = max(found, key=lambda run: run.start_ms).leader
    return [run for run in found if run.leader == leader]
