"""One thread a process: it ticks, asks every collector, and hands the sample to all who are due.

Ticks lie on a grid: tick *k* is at the sampler's start + *k* x interval, so there is no drift,
and runs with the same interval share their samples. A missed tick is skipped.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mlflow_sysmetrics.host.forks import CallLock, ForkOrder, hold_during_fork
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.log.isolation import Isolated

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.clock import Clock
    from mlflow_sysmetrics.sampling.runners import CollectorSet
    from mlflow_sysmetrics.sampling.window import Readings

LINGER_S = 5.0
"""How long the thread stays after the last run: in a sweep of short runs, starting one for each
costs more than what it does."""

_FRESH_S = 0.25
"""A run that opens this soon after a sample takes that one as its first."""


class Subscriber(Protocol):
    """Who gets the samples; called from the sampler's thread only."""

    @property
    def collectors(self) -> CollectorSet:
        """Who is asked; subscribers with the same collectors share their samples."""

    @property
    def interval_s(self) -> float:
        """Seconds between two samples."""

    def take(self, sample: list[Readings]) -> None:
        """Take one sample; the first comes as soon as the subscription begins."""


@dataclass
class _Subscription:
    subscriber: Subscriber
    opened_s: float
    due_s: float
    begun: bool = False
    asked_to_end: bool = False
    ending: bool = False  # the sample being taken is the last
    done: threading.Event = field(default_factory=threading.Event)


class Sampler:
    """The thread that samples while anyone is subscribed, and stays a while for the next.

    Args:
        clock: Its time.

    Attributes:
        busy: Held while collectors run, but for those in threads of their own, which have their
            own; a fork waits for it.
    """

    def __init__(self, clock: Clock) -> None:
        self.busy = CallLock()
        self._clock = clock
        self._condition = threading.Condition()
        self._subscriptions: dict[int, _Subscription] = {}
        self._thread: threading.Thread | None = None
        self._grid_s = 0.0
        hold_during_fork(self, ForkOrder.SAMPLER)

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, while anyone is subscribed and for a while after."""
        return self._thread

    def subscribe(self, subscriber: Subscriber) -> None:
        """Begin to sample for `subscriber`; returns at once.

        Raises:
            RuntimeError: No thread can be started (interpreter shutdown).
        """
        now_s = self._clock.now_s()
        with self._condition:
            if self._thread is None:
                self._thread = start_thread("sampler", self._run)
            if not self._subscriptions:
                self._grid_s = now_s
            self._subscriptions[id(subscriber)] = _Subscription(subscriber, now_s, due_s=now_s)
            self._condition.notify()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """End without a last sample."""
        with self._condition:
            self._subscriptions.pop(id(subscriber), None)
            self._condition.notify()

    def finish(self, subscriber: Subscriber, timeout_s: float) -> bool:
        """End with a last sample; False where it was not there in time."""
        with self._condition:
            subscription = self._subscriptions.get(id(subscriber))
            if subscription is None:
                return False
            subscription.asked_to_end = True
            subscription.due_s = -math.inf
            self._condition.notify()
        taken = subscription.done.wait(timeout_s)
        self.unsubscribe(subscriber)
        return taken

    def _run(self) -> None:
        while due := self._wait_for_due():
            only_begins = not any(each.begun or each.ending for each in due)
            samples: dict[CollectorSet, list[Readings]] = {}
            for subscription in due:
                collectors = subscription.subscriber.collectors
                if collectors not in samples:
                    with self.busy:
                        samples[collectors] = collectors.collect(
                            _FRESH_S if only_begins else 0.0,
                            is_last=any(each.ending for each in due),
                        )
                self._hand_over(subscription, samples[collectors])

    def _wait_for_due(self) -> list[_Subscription]:
        """Those whose time has come; empty when there has been no subscription for a while."""
        with self._condition:
            while self._condition.wait_for(lambda: self._subscriptions, LINGER_S):
                now_s = self._clock.now_s()
                due = [each for each in self._subscriptions.values() if each.due_s <= now_s]
                if due:
                    for each in due:
                        each.ending = each.asked_to_end
                    return due
                next_s = min(each.due_s for each in self._subscriptions.values())
                self._condition.wait(next_s - now_s)
            self._thread = None
            return []

    def _hand_over(self, subscription: _Subscription, sample: list[Readings]) -> None:
        subscriber = subscription.subscriber
        # What a slow collector had begun to read before this run opened comes with a later sample.
        since_s = subscription.opened_s - _FRESH_S
        if any(readings.time_s < since_s for readings in sample):
            sample = [readings for readings in sample if readings.time_s >= since_s]
        with Isolated() as taking:
            subscriber.take(sample)
        if taking.error is not None:
            logger.warning("a sample was lost: %r", taking.error)
        now_s = self._clock.now_s()
        # The first window is at least half an interval long: a shorter one is mostly noise.
        after_s = now_s if subscription.begun else now_s + subscriber.interval_s / 2
        ticks = math.floor((after_s - self._grid_s) / subscriber.interval_s) + 1
        with self._condition:
            subscription.begun = True
            if subscription.ending:
                self._subscriptions.pop(id(subscriber), None)
                subscription.done.set()
            elif not subscription.asked_to_end:
                subscription.due_s = self._grid_s + ticks * subscriber.interval_s
