"""One collector among those that are asked together: whatever it does, the others go on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mlflow_sysmetrics.collectors.rate_limit import CpuBudget
from mlflow_sysmetrics.host.backoff import Backoff
from mlflow_sysmetrics.host.errors import (
    Absent,
    Transient,
    Unavailable,
    is_short_of_descriptors,
    is_shortage,
)
from mlflow_sysmetrics.log import logger, warn_of_shortage
from mlflow_sysmetrics.sampling.window import Readings
from mlflow_sysmetrics.sources.plausible import most_plausible

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.collectors.contract import Collector
    from mlflow_sysmetrics.host.host import Host

PROCESS_TREE = "process_tree"
"""Name of the collector whose subject may end."""

CPU_SHARE = 0.05
"""CPU seconds a second that one collector may take; beyond that it is asked less often."""

_HEAD_START_S = 2.0
"""Time credited to the budget at the start."""


@runtime_checkable
class HasLastSample(Protocol):
    """A collector that takes more trouble over the last sample of a run."""

    def expect_last(self) -> None:
        """The next sample is a run's last."""


@runtime_checkable
class Explains(Protocol):
    """A collector that can say what it does not report, and why."""

    def notes(self) -> list[str]:
        """Sentences for a person to read."""


@dataclass(frozen=True)
class BlockingCollector:
    """An opener of a collector whose calls may block for seconds: it gets a thread of its own.

    Not so the collector whose `may_block` is False once it is open.

    Attributes:
        open: How to open it.
    """

    open: Callable[[Host], Collector]

    def __call__(self, host: Host) -> Collector:
        """Open it as any other."""
        return self.open(host)


class CollectorRunner:
    """A collector that is opened when it is first asked.

    Where that fails it is tried again at growing intervals, unless the host does not have what
    the collector reads.

    Args:
        name: Its name.
        opener: How to open it.
        host: Where it reads.

    Attributes:
        name: Its name.
        was_opened: Whether that has been tried.
        absence: Why it is absent; None where it is open.
        is_gone: Whether what it reads was not there when it was last asked; not so where it could
            not be read for want of a resource, or failed.
        failures: How often it raised.
        cost_s: CPU time that its latest sample took.
    """

    def __init__(self, name: str, opener: Callable[[Host], Collector], host: Host) -> None:
        self.name = name
        self.was_opened = False
        self.absence: str | None = None
        self.is_gone = False
        self.failures = 0
        self.cost_s = 0.0
        self._opener = opener
        self._host = host
        self._collector: Collector | None = None
        self._budget = CpuBudget(CPU_SHARE, host.clock.now_s() - _HEAD_START_S, math.inf)
        self._is_stretched = False
        self._opening = Backoff()

    @property
    def may_be_opened(self) -> bool:
        """Whether it is worth a try now, or is open."""
        return self._collector is not None or self._opening.allows(self._host.clock.now_s())

    @property
    def may_block(self) -> bool:
        """Whether asking it may take seconds; known once it is open."""
        return self._collector is None or getattr(self._collector, "may_block", True)

    def open(self) -> None:
        """Open it, if this host has what it reads; does nothing where it is open."""
        if self._collector is not None or not self.may_be_opened:
            return
        try:
            self._collector = self._opener(self._host)
            self.absence = None
        except Absent as reason:
            self._give_up(reason)
        except Unavailable as reason:
            if is_shortage(reason) or is_short_of_descriptors():
                self._put_off(reason, is_for_want=True)
            else:
                self._give_up(reason)
        except Exception as error:  # noqa: BLE001 - each part fails alone
            self._put_off(error, is_for_want=is_shortage(error))
        self.is_gone = self._opening.has_given_up
        self.was_opened = True

    def _give_up(self, reason: Unavailable) -> None:
        """The host does not have what it reads."""
        self.absence = str(reason)
        self._opening.give_up(reason)
        logger.debug("no %s metrics: %s", self.name, reason)

    def _put_off(self, error: Exception, *, is_for_want: bool) -> None:
        """It cannot be opened now, which is said once."""
        reason = str(error) if isinstance(error, Unavailable) else repr(error)
        if is_for_want:
            warn_of_shortage(f"what the {self.name} metrics are made of", error)
        elif self.absence is None:
            logger.warning(
                "no %s metrics for now, tried again at growing intervals: %s", self.name, reason
            )
        self.absence = reason
        self._opening.fail(error, self._host.clock.now_s())

    def sample(self, *, is_last: bool) -> Readings | None:
        """Its readings, with the time at which it was asked; None where it has none now."""
        collector = self._collector
        if collector is None:
            return None
        now_s = self._host.clock.now_s()  # counters are read first, what takes long (USS) after
        if is_last:
            if isinstance(collector, HasLastSample):
                collector.expect_last()
        elif not self._budget.allows(self.cost_s, now_s):
            self._say_stretched()
            return None
        values = self._values_of(collector)
        return Readings(now_s, values) if values else None

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        return self._collector.notes() if isinstance(self._collector, Explains) else []

    def close(self) -> None:
        """Close it; may be called twice."""
        collector, self._collector = self._collector, None
        if collector is None:
            return
        self._opening.give_up(Unavailable("closed"))
        try:
            collector.close()
        except Exception as error:  # noqa: BLE001 - each part fails alone
            logger.debug("closing %s: %r", self.name, error)

    def _say_stretched(self) -> None:
        if not self._is_stretched:
            self._is_stretched = True
            logger.info(
                "%s metrics are sampled less often, for a sample costs %.1f ms",
                self.name,
                self.cost_s * 1e3,
            )

    def _values_of(self, collector: Collector) -> dict[str, float]:
        began_s = time.thread_time()
        self.is_gone = False
        try:
            return _plausible(collector.collect())
        except Unavailable as reason:
            self.is_gone = not isinstance(reason, Transient)
            logger.debug("no %s readings this time: %s", self.name, reason)
        except Exception as error:  # noqa: BLE001 - each part fails alone
            self.failures += 1
            if is_shortage(error):
                warn_of_shortage(f"what the {self.name} metrics are made of", error)
            elif self.failures == 1:
                logger.warning(
                    "the %s collector failed and is asked again at the next sample: %r",
                    self.name,
                    error,
                )
        finally:
            self.cost_s = time.thread_time() - began_s
            self._budget.spend(self.cost_s)
        return {}


def _plausible(values: dict[str, float]) -> dict[str, float]:
    """The values without those that no machine has."""
    odd = [name for name, value in values.items() if not 0 <= value <= most_plausible(name)]
    for name in odd:
        logger.debug("%s is left out: it cannot be %r", name, values[name])
    return {name: value for name, value in values.items() if name not in odd} if odd else values
