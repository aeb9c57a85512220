"""A host beside rank 0's: it looks for the run of its job, and lets itself be sampled for that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from mlflow_sysmetrics.delivery.run_store import AccessDenied, Busy
from mlflow_sysmetrics.distributed.candidates import AmbiguousRuns, runs_of_job
from mlflow_sysmetrics.distributed.leader import host_of
from mlflow_sysmetrics.distributed.nodes import list_of_nodes, nodes_of, number_of
from mlflow_sysmetrics.distributed.pauses import Pauses
from mlflow_sysmetrics.distributed.run_search import NotShared, RunSearch
from mlflow_sysmetrics.log import logger, warn_once
from mlflow_sysmetrics.log.addresses import shown_address, shown_text
from mlflow_sysmetrics.log.isolation import Isolated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_sysmetrics.distributed.job import Job
    from mlflow_sysmetrics.distributed.run_search import FoundRun


class Joined(Protocol):
    """A run that this host is sampled for."""

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""

    def put_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags on it, with what is sent next; returns at once."""

    def end(self) -> None:
        """It was ended by the process that opened it; returns at once."""


class Search(Protocol):
    """See `RunSearch`."""

    tracking_uri: str
    experiments: str
    cost_s: float

    def find(self, key: str) -> list[FoundRun]:
        """The open runs of a job."""


class Sampling(Protocol):
    """What joins runs, and tells where this host stands in them."""

    here: str

    def join(self, run: FoundRun, number: int, tracking_uri: str) -> Joined | None:
        """Begin to sample for a run; None where another process of this host does."""


class Follower:
    """Looks for the runs of one job, and joins them one after another, or several at a time.

    Args:
        job: The job.
        launched_ms: When its launcher on this host started.
        sampling: Joins a run.
        tracking_uri: Gives the tracking URI; None while none is set.
        open_search: Makes what searches a store.
    """

    def __init__(
        self,
        job: Job,
        launched_ms: int,
        sampling: Sampling,
        tracking_uri: Callable[[], str | None],
        open_search: Callable[[str], Search] = RunSearch,
    ) -> None:
        self._job = job
        self._launched_ms = launched_ms
        self._sampling = sampling
        self._tracking_uri = tracking_uri
        self._open_search = open_search
        self._search: Search | None = None
        self._joined: dict[str, Joined] = {}
        self._pauses = Pauses(time.monotonic())
        self._failure = ""
        self._host: str | None = None  # of the run that was joined last

    @property
    def has_run(self) -> bool:
        """Whether a run is being sampled for."""
        return any(joined.is_open for joined in self._joined.values())

    def look(self) -> float | None:
        """Look once.

        Returns:
            After how many seconds to look again; None where that is over.
        """
        began_s = time.monotonic()
        if not self.has_run and self._pauses.is_over(began_s):
            if self._host is None:
                self._say_what_was_missing()
            return None
        with Isolated() as looking:
            self._look()
        reason = looking.error
        if isinstance(reason, AccessDenied | NotShared):
            if not self.has_run:
                warn_once(f"{_NOT_IN_RUN}: {reason}")
                return None
        elif isinstance(reason, AmbiguousRuns):
            self._say_ambiguous(reason)
        elif reason is not None and not isinstance(reason, Busy):  # whatever it is, it may pass
            self._failure = shown_text(reason, self._tracking_uri())
            logger.debug("no look for the run of this job: %s", self._failure)
        least_s = reason.retry_after_s if isinstance(reason, Busy) else 0.0
        cost_s = 0.0 if self._search is None else self._search.cost_s
        pause_s = self._pauses.after(time.monotonic(), cost_s, has_found=self.has_run)
        return max(pause_s, least_s)

    def _forget_ended(self, now_s: float) -> None:
        ended = [run_id for run_id, joined in self._joined.items() if not joined.is_open]
        for run_id in ended:
            del self._joined[run_id]
        if ended and not self._joined:  # the next one may open at once
            self._pauses.begin(now_s)

    def _look(self) -> None:
        tracking_uri = self._tracking_uri()
        if tracking_uri is None:
            self._failure = "MLFLOW_TRACKING_URI is not set on this host"
            if not self._pauses.is_eager(time.monotonic()):
                self._say_what_was_missing()
            return
        if self._search is None or self._search.tracking_uri != tracking_uri:
            self._search = self._open_search(tracking_uri)
        found = self._search.find(str(self._job.key))
        self._failure = ""
        host = self._host if self.has_run else None
        self._take(runs_of_job(found, self._job, self._launched_ms, host), tracking_uri)
        self._forget_ended(time.monotonic())

    def _take(self, runs: Sequence[FoundRun], tracking_uri: str) -> None:
        """Join what is new, end what is no longer open, and see to it that this host is listed."""
        for run_id in self._joined.keys() - {run.run_id for run in runs}:
            self._joined[run_id].end()
        for run in runs:
            if (joined := self._joined.get(run.run_id)) is not None:
                joined.put_tags(list_of_nodes(run.tags, self._sampling.here))
                continue
            leader = host_of(run.leader)
            nodes = nodes_of(run.tags)
            number = number_of(nodes, self._sampling.here, self._job.node, leader)
            joined = self._sampling.join(run, number, tracking_uri)
            if joined is None:
                return
            self._joined[run.run_id] = joined
            self._host = leader
            logger.info("this host is node %d of run %s", number, run.run_id)

    def _say_ambiguous(self, runs: AmbiguousRuns) -> None:
        warn_once(
            f"{_NOT_IN_RUN}: several jobs have the same address and port ({runs}). Start each with "
            "a name of its own, for example `torchrun --rdzv-id=NAME`",
            subject="ambiguous runs",
        )

    def _say_what_was_missing(self) -> None:
        if self._failure or self._search is None:
            why = self._failure
        else:
            store = shown_address(self._search.tracking_uri)
            why = f"no open run of this job is in {self._search.experiments} of {store}"
        warn_once(
            f"{_NOT_IN_RUN}: {why}. Rank 0's run is found on other hosts where MLFLOW_TRACKING_URI "
            "and MLFLOW_EXPERIMENT_NAME are exported for all ranks",
            subject="missing in the run",
        )


_NOT_IN_RUN = "the metrics of this host are not in the job's run"
