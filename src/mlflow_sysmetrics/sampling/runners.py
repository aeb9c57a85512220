"""The collectors that are asked together, each failing alone."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, TypeAlias

from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.sampling.runner import PROCESS_TREE, BlockingCollector, CollectorRunner
from mlflow_sysmetrics.sampling.runner_thread import RunnerThread
from mlflow_sysmetrics.sampling.window import Readings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_sysmetrics.collectors.contract import Collector
    from mlflow_sysmetrics.host.host import Host

    Openers: TypeAlias = Sequence[tuple[str, Callable[[Host], Collector]]]


PATIENCE_S = 0.5
"""How long a sample waits for a collector that blocks; it waits for it once, not at each tick."""

LAST_PATIENCE_S = 1.0
"""How long a run's last sample does."""

OPENING_PATIENCE_S = 10.0
"""How long `open` does, which only a person waits for."""


def default_openers() -> Openers:
    """The collectors of the package, imported only now: they import psutil."""
    from mlflow_sysmetrics.sampling.collectors import COLLECTORS  # noqa: PLC0415 - heavy

    return COLLECTORS


class CollectorSet:
    """Collectors of one host; they are opened when they are first asked.

    Args:
        host: Where they read.
        openers: Gives their names and how to open them.
    """

    def __init__(self, host: Host, openers: Callable[[], Openers] = default_openers) -> None:
        self._host = host
        self._openers: Callable[[], Openers] | None = openers
        self._importing = Backoff()
        self._members: list[CollectorRunner] = []
        self._threads: dict[CollectorRunner, RunnerThread] = {}  # of those that may block
        self._latest: list[Readings] = []
        self._latest_s = -math.inf

    @property
    def states(self) -> dict[str, str | None]:
        """Why a collector is absent, or None where it is open, by its name.

        In the order in which they are asked; known once opened.
        """
        if self._importing.reason is not None:
            return {"all": self._importing.reason}
        return {each.name: each.absence for each in self._members if each.was_opened}

    @property
    def failures(self) -> dict[str, int]:
        """How often each collector raised, by the name of those that did."""
        return {each.name: each.failures for each in self._members if each.failures}

    def is_gone(self, name: str) -> bool:
        """Whether what a collector reads was not there when it was last asked.

        Not so of one that has failed, or is too dear to be asked each time.
        """
        return any(each.is_gone for each in self._members if each.name == name)

    def notes(self) -> list[str]:
        """What the collectors do not report, and why; known once they have been asked."""
        return [note for member in self._members for note in member.notes()]

    def load(self) -> None:
        """Import the collectors; does nothing where that is done, or is not worth a try now.

        Beside a busy main thread an import takes seconds, since each of its many small reads
        then waits for the interpreter's lock; so it is better done in that thread.
        """
        now_s = self._host.clock.now_s()
        if self._openers is None or not self._importing.allows(now_s):
            return
        try:
            named = self._openers()
        except Exception as error:  # noqa: BLE001 - psutil broken at import, for one
            if isinstance(error, ModuleNotFoundError):
                self._importing.give_up(error)
            else:  # for want of descriptors, say
                self._importing.fail(error, now_s)
            warn_once(f"no metrics can be collected: {error!r}")
            return
        self._openers = None
        self._importing.succeed()
        for name, opener in named:
            member = CollectorRunner(name, opener, self._host)
            self._members.append(member)
            if isinstance(opener, BlockingCollector):
                self._threads[member] = RunnerThread(member)
            elif name == PROCESS_TREE:
                member.open()  # what the training starts from now on can be told from others

    def open(self) -> None:
        """Open the collectors that this host has, and wait for those that take their time."""
        self.load()
        for thread in self._threads.values():
            thread.begin(only_open=True)
        for member in self._members:
            if member in self._threads:
                self._threads[member].wait(OPENING_PATIENCE_S)
            else:
                member.open()

    def collect(self, max_age_s: float = 0.0, *, is_last: bool = False) -> list[Readings]:
        """One sample: the readings of each collector that has some.

        A collector that may block is waited for within a bound; what it has read later comes with
        a later sample, under the time at which it was read.

        Args:
            max_age_s: Where the latest sample is not older than this it is given again.
            is_last: Whether it is the last one of a run.
        """
        began_s = self._host.clock.now_s()
        if began_s - self._latest_s >= max_age_s:
            self.load()
            self._latest, self._latest_s = self._sample(is_last=is_last), began_s
        return self._latest

    def close(self) -> None:
        """Close every collector; may be called twice."""
        self._openers = None
        for thread in self._threads.values():
            thread.close(PATIENCE_S)
        while self._members:
            member = self._members.pop()
            if member not in self._threads:
                member.close()
        self._threads.clear()

    def _sample(self, *, is_last: bool) -> list[Readings]:
        began_s = time.thread_time()
        blocking = {each: thread for each, thread in self._threads.items() if thread.may_block}
        awaited = [thread for thread in blocking.values() if thread.begin(is_last=is_last)]
        sample = []
        for member in self._members:
            if member not in blocking:
                member.open()
                readings = member.sample(is_last=is_last)
                if readings is not None:
                    sample.append(readings)
        cost_s = self._take_slow(sample, awaited, LAST_PATIENCE_S if is_last else PATIENCE_S)
        cost_s += time.thread_time() - began_s
        now_s = self._host.clock.now_s()
        sample.append(Readings(now_s, {"process/sampler_cpu_milliseconds": cost_s * 1e3}))
        return sample

    def _take_slow(
        self, sample: list[Readings], awaited: list[RunnerThread], patience_s: float
    ) -> float:
        """Add what collectors that may block have read; returns the CPU time that it cost."""
        deadline_s = time.monotonic() + patience_s
        for thread in awaited:
            thread.wait(max(0.0, deadline_s - time.monotonic()))
        total_cost_s = 0.0
        for thread in self._threads.values():
            samples, cost_s = thread.take()
            sample += samples
            total_cost_s += cost_s
        return total_cost_s
