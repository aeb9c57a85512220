"""One thread a process: it ticks, asks every collector, and hands the sample to all who are due.

Ticks lie on a grid: tick *k* is at the sampler's start + *k* x interval, so there is no drift,
and runs with the same interval share their samples. A missed tick is skipped.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mlflow_sysmetrics.host import Unavailable
from mlflow_sysmetrics.notices import logger, warn_once
from mlflow_sysmetrics.window import Readings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_sysmetrics.collectors import Collector
    from mlflow_sysmetrics.host import Host

_FRESH_S = 0.25
"""A run that opens this soon after a sample takes that one as its first."""


class Subscriber(Protocol):
    """Who gets the samples; called from the sampler's thread only."""

    @property
    def interval_s(self) -> float:
        """Seconds between two samples."""

    def take(self, sample: list[Readings]) -> None:
        """Take one sample; the first comes as soon as the subscription begins."""


@dataclass
class _Subscription:
    subscriber: Subscriber
    due_s: float
    begun: bool = False
    asked_to_end: bool = False
    ending: bool = False  # the sample being taken is the last
    done: threading.Event = field(default_factory=threading.Event)


def default_openers() -> Sequence[tuple[str, Callable[[Host], Collector]]]:
    """The collectors of the package, imported only now: they import psutil."""
    from mlflow_sysmetrics.collectors import COLLECTORS  # noqa: PLC0415

    return COLLECTORS


class Collectors:
    """All collectors of a host, each failing alone.

    Attributes:
        unavailable: Why a collector is absent, by its name.
        failures: How often each collector raised, by its name.
    """

    def __init__(
        self, host: Host, openers: Sequence[tuple[str, Callable[[Host], Collector]]]
    ) -> None:
        self._clock = host.clock
        self._open: list[tuple[str, Collector]] = []
        self.unavailable: dict[str, str] = {}
        self.failures: dict[str, int] = {}
        for name, opener in openers:
            try:
                self._open.append((name, opener(host)))
            except Unavailable as reason:
                self.unavailable[name] = str(reason)
                logger.debug("mlflow-sysmetrics: no %s metrics: %s", name, reason)
            except Exception as error:  # noqa: BLE001 - each part fails alone
                self.unavailable[name] = repr(error)
                logger.warning("mlflow-sysmetrics: no %s metrics: %r", name, error)

    def collect(self) -> list[Readings]:
        """One sample: the readings of each collector that has some."""
        began_s = time.thread_time()
        sample = [
            Readings(self._clock.now_s(), readings)
            for name, collector in self._open
            if (readings := self._readings_of(name, collector))
        ]
        cost_ms = (time.thread_time() - began_s) * 1e3
        sample.append(Readings(self._clock.now_s(), {"process/sampler_cpu_milliseconds": cost_ms}))
        return sample

    def _readings_of(self, name: str, collector: Collector) -> dict[str, float]:
        try:
            return collector.collect()
        except Unavailable as reason:
            logger.debug("mlflow-sysmetrics: no %s readings this time: %s", name, reason)
        except Exception as error:  # noqa: BLE001 - each part fails alone
            count = self.failures[name] = self.failures.get(name, 0) + 1
            if count == 1:
                logger.warning(
                    "mlflow-sysmetrics: the %s collector failed and is asked again at the next "
                    "sample: %r",
                    name,
                    error,
                )
        return {}

    def close(self) -> None:
        """Close every collector; may be called twice."""
        while self._open:
            name, collector = self._open.pop()
            try:
                collector.close()
            except Exception as error:  # noqa: BLE001 - each part fails alone
                logger.debug("mlflow-sysmetrics: closing %s: %r", name, error)


class Sampler:
    """The thread that samples while anyone is subscribed.

    Attributes:
        busy: Held while collectors run; a fork waits for it.
    """

    def __init__(
        self,
        host: Host,
        openers: Callable[[], Sequence[tuple[str, Callable[[Host], Collector]]]] = default_openers,
    ) -> None:
        self.busy = threading.RLock()
        self._host = host
        self._openers = openers
        self._collectors: Collectors | None = None
        self._condition = threading.Condition()
        self._subscriptions: dict[int, _Subscription] = {}
        self._thread: threading.Thread | None = None
        self._grid_s = 0.0
        self._latest: list[Readings] = []
        self._latest_s = -math.inf

    def subscribe(self, subscriber: Subscriber) -> None:
        """Begin to sample for `subscriber`; returns at once.

        Raises:
            RuntimeError: No thread can be started (interpreter shutdown).
        """
        now_s = self._host.clock.now_s()
        with self._condition:
            if not self._subscriptions:
                self._grid_s = now_s
            self._subscriptions[id(subscriber)] = _Subscription(subscriber, due_s=now_s)
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="mlflow-sysmetrics-sampler", daemon=True
                )
                thread.start()
                self._thread = thread
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
            fresh_enough = not any(each.begun or each.ending for each in due)
            with self.busy:
                sample = self._sample(fresh_enough=fresh_enough)
            for subscription in due:
                self._hand_over(subscription, sample)

    def _wait_for_due(self) -> list[_Subscription]:
        """Those whose time has come; empty when the last subscription has ended."""
        with self._condition:
            while self._subscriptions:
                now_s = self._host.clock.now_s()
                due = [each for each in self._subscriptions.values() if each.due_s <= now_s]
                if due:
                    for each in due:
                        each.ending = each.asked_to_end
                    return due
                next_s = min(each.due_s for each in self._subscriptions.values())
                self._condition.wait(next_s - now_s)
            self._thread = None
            return []

    def _sample(self, *, fresh_enough: bool) -> list[Readings]:
        began_s = self._host.clock.now_s()
        if fresh_enough and began_s - self._latest_s < _FRESH_S:
            return self._latest
        if self._collectors is None:
            self._collectors = self._open_collectors()
        self._latest, self._latest_s = self._collectors.collect(), began_s
        return self._latest

    def _open_collectors(self) -> Collectors:
        try:
            return Collectors(self._host, self._openers())
        except Exception as error:  # noqa: BLE001 - psutil broken at import, for one
            warn_once(f"no metrics can be collected: {error!r}")
            return Collectors(self._host, ())

    def _hand_over(self, subscription: _Subscription, sample: list[Readings]) -> None:
        subscriber = subscription.subscriber
        try:
            subscriber.take(sample)
        except Exception as error:  # noqa: BLE001 - one run's trouble is not the others'
            logger.warning("mlflow-sysmetrics: a sample was lost: %r", error)
        now_s = self._host.clock.now_s()
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
