"""The collectors that are asked together, each failing alone."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from mlflow_sysmetrics.cost_share import CostShare
from mlflow_sysmetrics.host import Unavailable
from mlflow_sysmetrics.notices import logger, warn_once
from mlflow_sysmetrics.window import Readings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_sysmetrics.collectors import Collector
    from mlflow_sysmetrics.host import Host

    Openers: TypeAlias = Sequence[tuple[str, Callable[[Host], Collector]]]


COST_SHARE = 0.05
"""CPU seconds a second that one collector may take; beyond that it is asked less often."""

_HEAD_START_S = 2.0
"""Time that has passed, for this reckoning, when a collector is opened."""


@runtime_checkable
class ExpectsLast(Protocol):
    """A collector that takes more trouble over the last sample of a run."""

    def expect_last(self) -> None:
        """The next sample is a run's last."""


def default_openers() -> Openers:
    """The collectors of the package, imported only now: they import psutil."""
    from mlflow_sysmetrics.collectors import COLLECTORS  # noqa: PLC0415 - heavy

    return COLLECTORS


@dataclass
class _Member:
    name: str
    collector: Collector
    budget: CostShare
    cost_s: float = 0.0  # of its latest sample
    is_stretched: bool = False


class CollectorSet:
    """Collectors of one host; they are opened when they are first asked.

    Args:
        host: Where they read.
        openers: Gives their names and how to open them.

    Attributes:
        states: Why a collector is absent, or None where it is open, by its name and in the order
            in which they are asked; known once opened.
        failures: How often each collector raised, by its name.
    """

    def __init__(self, host: Host, openers: Callable[[], Openers] = default_openers) -> None:
        self.states: dict[str, str | None] = {}
        self.failures: dict[str, int] = {}
        self._host = host
        self._openers: Callable[[], Openers] | None = openers
        self._named: Openers = ()
        self._members: list[_Member] = []
        self._latest: list[Readings] = []
        self._latest_s = -math.inf

    def load(self) -> None:
        """Import the collectors; does nothing when called again.

        Beside a busy main thread an import takes seconds, since each of its many small reads
        then waits for the interpreter's lock; so it is better done in that thread.
        """
        openers, self._openers = self._openers, None
        if openers is None:
            return
        try:
            self._named = openers()
        except Exception as error:  # noqa: BLE001 - psutil broken at import, for one
            self.states["all"] = repr(error)
            warn_once(f"no metrics can be collected: {error!r}")

    def open(self) -> None:
        """Open the collectors that this host has; does nothing when called again."""
        self.load()
        named, self._named = self._named, ()
        for name, opener in named:
            try:
                self._members.append(_Member(name, opener(self._host), self._new_budget()))
                self.states[name] = None
            except Unavailable as reason:
                self.states[name] = str(reason)
                logger.debug("mlflow-sysmetrics: no %s metrics: %s", name, reason)
            except Exception as error:  # noqa: BLE001 - each part fails alone
                self.states[name] = repr(error)
                logger.warning("mlflow-sysmetrics: no %s metrics: %r", name, error)

    def collect(self, max_age_s: float = 0.0, *, is_last: bool = False) -> list[Readings]:
        """One sample: the readings of each collector that has some.

        Args:
            max_age_s: Where the latest sample is not older than this it is given again.
            is_last: Whether it is the last one of a run.
        """
        began_s = self._host.clock.now_s()
        if began_s - self._latest_s >= max_age_s:
            self.open()
            self._latest, self._latest_s = self._sample(is_last=is_last), began_s
        return self._latest

    def close(self) -> None:
        """Close every collector; may be called twice."""
        while self._members:
            member = self._members.pop()
            try:
                member.collector.close()
            except Exception as error:  # noqa: BLE001 - each part fails alone
                logger.debug("mlflow-sysmetrics: closing %s: %r", member.name, error)

    def _new_budget(self) -> CostShare:
        return CostShare(COST_SHARE, self._host.clock.now_s() - _HEAD_START_S, math.inf)

    def _sample(self, *, is_last: bool) -> list[Readings]:
        clock = self._host.clock
        began_s = time.thread_time()
        sample = []
        for member in self._members:
            if is_last and isinstance(member.collector, ExpectsLast):
                member.collector.expect_last()
            if is_last or self._is_affordable(member):
                read_s = clock.now_s()  # counters are read first, what takes long (USS) after them
                readings = self._readings_of(member)
                if readings:
                    sample.append(Readings(read_s, readings))
        cost_ms = (time.thread_time() - began_s) * 1e3
        sample.append(Readings(clock.now_s(), {"process/sampler_cpu_milliseconds": cost_ms}))
        return sample

    def _is_affordable(self, member: _Member) -> bool:
        if member.budget.allows(member.cost_s, self._host.clock.now_s()):
            return True
        if not member.is_stretched:
            member.is_stretched = True
            logger.info(
                "mlflow-sysmetrics: %s metrics are sampled less often, for a sample costs %.1f ms",
                member.name,
                member.cost_s * 1e3,
            )
        return False

    def _readings_of(self, member: _Member) -> dict[str, float]:
        began_s = time.thread_time()
        try:
            return member.collector.collect()
        except Unavailable as reason:
            logger.debug("mlflow-sysmetrics: no %s readings this time: %s", member.name, reason)
        except Exception as error:  # noqa: BLE001 - each part fails alone
            count = self.failures[member.name] = self.failures.get(member.name, 0) + 1
            if count == 1:
                logger.warning(
                    "mlflow-sysmetrics: the %s collector failed and is asked again at the next "
                    "sample: %r",
                    member.name,
                    error,
                )
        finally:
            member.cost_s = time.thread_time() - began_s
            member.budget.spend(member.cost_s)
        return {}
