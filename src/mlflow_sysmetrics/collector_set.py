"""The collectors that are asked together, each failing alone."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from mlflow_sysmetrics.host import Unavailable
from mlflow_sysmetrics.notices import logger, warn_once
from mlflow_sysmetrics.window import Readings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_sysmetrics.collectors import Collector
    from mlflow_sysmetrics.host import Host

    Openers: TypeAlias = Sequence[tuple[str, Callable[[Host], Collector]]]


@runtime_checkable
class ExpectsLast(Protocol):
    """A collector that takes more trouble over the last sample of a run."""

    def expect_last(self) -> None:
        """The next sample is a run's last."""


def default_openers() -> Openers:
    """The collectors of the package, imported only now: they import psutil."""
    from mlflow_sysmetrics.collectors import COLLECTORS  # noqa: PLC0415

    return COLLECTORS


class CollectorSet:
    """Collectors of one host; they are opened when they are first asked.

    Args:
        host: Where they read.
        openers: Gives their names and how to open them.

    Attributes:
        unavailable: Why a collector is absent, by its name; known once opened.
        failures: How often each collector raised, by its name.
    """

    def __init__(self, host: Host, openers: Callable[[], Openers] = default_openers) -> None:
        self.unavailable: dict[str, str] = {}
        self.failures: dict[str, int] = {}
        self._host = host
        self._openers: Callable[[], Openers] | None = openers
        self._collectors: list[tuple[str, Collector]] = []
        self._latest: list[Readings] = []
        self._latest_s = -math.inf

    def open(self) -> None:
        """Open the collectors that this host has; does nothing when called again."""
        openers, self._openers = self._openers, None
        if openers is None:
            return
        try:
            named = openers()
        except Exception as error:  # noqa: BLE001 - psutil broken at import, for one
            self.unavailable["all"] = repr(error)
            warn_once(f"no metrics can be collected: {error!r}")
            return
        for name, opener in named:
            try:
                self._collectors.append((name, opener(self._host)))
            except Unavailable as reason:
                self.unavailable[name] = str(reason)
                logger.debug("mlflow-sysmetrics: no %s metrics: %s", name, reason)
            except Exception as error:  # noqa: BLE001 - each part fails alone
                self.unavailable[name] = repr(error)
                logger.warning("mlflow-sysmetrics: no %s metrics: %r", name, error)

    @property
    def available(self) -> list[str]:
        """Names of the open collectors, in the order in which they are asked."""
        return [name for name, _ in self._collectors]

    def collect(self, max_age_s: float = 0.0, *, is_last: bool = False) -> list[Readings]:
        """One sample: the readings of each collector that has some.

        Args:
            max_age_s: Where the latest sample is not older than this it is given again.
            is_last: Whether it is the last one of a run.
        """
        began_s = self._host.clock.now_s()
        if began_s - self._latest_s >= max_age_s:
            self.open()
            for _, collector in self._collectors if is_last else ():
                if isinstance(collector, ExpectsLast):
                    collector.expect_last()
            self._latest, self._latest_s = self._sample(), began_s
        return self._latest

    def close(self) -> None:
        """Close every collector; may be called twice."""
        while self._collectors:
            name, collector = self._collectors.pop()
            try:
                collector.close()
            except Exception as error:  # noqa: BLE001 - each part fails alone
                logger.debug("mlflow-sysmetrics: closing %s: %r", name, error)

    def _sample(self) -> list[Readings]:
        clock = self._host.clock
        began_s = time.thread_time()
        sample = [
            Readings(clock.now_s(), readings)
            for name, collector in self._collectors
            if (readings := self._readings_of(name, collector))
        ]
        cost_ms = (time.thread_time() - began_s) * 1e3
        sample.append(Readings(clock.now_s(), {"process/sampler_cpu_milliseconds": cost_ms}))
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
