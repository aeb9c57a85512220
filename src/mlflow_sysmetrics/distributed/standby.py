"""A run that another process of this host samples: this one takes over if that one ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.sampling.runners import CollectorSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_sysmetrics.distributed.claim import Claim
    from mlflow_sysmetrics.host.host import Host
    from mlflow_sysmetrics.sampling.sampler import Sampler
    from mlflow_sysmetrics.sampling.window import Readings


class Standby:
    """Stands where a recorder would, and logs nothing.

    A process whose ancestor samples is part of that one's tree. If the ancestor lives on and
    samples no more, it has ended the run: then there is nothing to take over.

    Args:
        claim: Held by the process that samples.
        host: This host.
        sampler: Asks, now and then, whether the claim is free.
        take_over: Called, by the sampler's thread, once this process holds the claim.

    Attributes:
        collectors: None are asked.
        interval_s: Seconds between two attempts.
        store_timeout_s: Nothing is waited for.
    """

    interval_s = 1.0
    store_timeout_s = 0.0

    def __init__(
        self, claim: Claim, host: Host, sampler: Sampler, take_over: Callable[[], None]
    ) -> None:
        self.collectors = CollectorSet(host, tuple)
        self._claim = claim
        self._sampler = sampler
        self._take_over = take_over
        self._holder = claim.holder()
        self._ancestor = _ancestor(self._holder)
        self._said: Claim | None = None

    def open(self) -> None:
        """Begin to wait; returns at once.

        Raises:
            RuntimeError: No thread can be started (interpreter shutdown).
        """
        self._sampler.subscribe(self)

    def warn_if_not_counted(self, run_id: str, said: Claim) -> None:
        """Say that this process is not in the tree that is sampled, unless it is.

        Args:
            run_id: The run.
            said: Which of several processes says so.
        """
        is_counted = self._ancestor is not None or self._holder in (None, os.getpid())
        if is_counted or not said.acquire():
            return
        self._said = said
        warn_once(
            f"several processes of this host log to run {run_id}. Process {self._holder} samples "
            "for all: system/process/… counts it and its children, not the others. To count all, "
            "start them by one command: `mlflow-sysmetrics watch -- COMMAND`"
        )

    def take(self, sample: list[Readings]) -> None:  # noqa: ARG002 - a subscriber's
        """Take over, if the process that sampled does so no more."""
        if not self._claim.acquire():
            return
        self.close()
        if self._ancestor is not None and _lives(self._ancestor):
            self._claim.release()
        else:
            self._take_over()

    def put(self, *, tags: Mapping[str, str]) -> None:
        """Nothing: the process that samples sets the tags."""

    def close(self) -> None:
        """Wait no more."""
        self._sampler.unsubscribe(self)
        if self._said is not None:
            self._said.release()

    end = close

    def begin_to_stop(self) -> None:
        """Nothing is sampled, so there is nothing to begin with."""

    def stop(self, deadline_s: float) -> None:  # noqa: ARG002 - a recorder's
        """Wait no more."""
        self.close()

    def deliver(self, deadline_s: float) -> None:
        """There is nothing to send."""


def _ancestor(pid: int | None) -> psutil.Process | None:
    try:
        parents = psutil.Process().parents()
    except psutil.Error:
        return None
    return next((each for each in parents if each.pid == pid), None)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
