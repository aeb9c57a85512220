"""Two hosts that log to one run under the same keys: noticed, and kept apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.sampling.sink import SUMMARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_sysmetrics.delivery.run_address import RunAddress
    from mlflow_sysmetrics.delivery.run_store import RunState, RunStore
    from mlflow_sysmetrics.sampling.sink import Point

_LOOKS = 3
"""How many batches are preceded by a look: others send theirs as often as we do."""


class KeptApartStore:
    """A run that was there before this process: others may log to it at the same time.

    Before each of the first batches it looks whether the newest point of a metric is from now on
    and not of this process. Then all that follows goes under a name of its own.

    Args:
        address: The run.
        own_prefix: What keys begin with once another host was noticed.
        open_store: Opens the store of an address.

    Attributes:
        limits: Shared by all runs of the store.
    """

    def __init__(
        self, address: RunAddress, own_prefix: str, open_store: Callable[[RunAddress], RunStore]
    ) -> None:
        self._address = address
        self._own_prefix = own_prefix
        self._open_store = open_store
        self._store = open_store(address)
        self.limits = self._store.limits
        self._looks_left = _LOOKS
        self._sent_ms: set[int] = set()

    def log(self, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        """See `RunStore`."""
        ours = [point for point in points if not point.key.startswith(SUMMARY_PREFIX)]
        if ours and self._looks_left:
            self._look(ours)
            self._sent_ms.update(point.timestamp_ms for point in ours)
        self._store.log(points, tags)

    def read(self) -> RunState:
        """See `RunStore`."""
        return self._store.read()

    def timestamps(self, key: str) -> frozenset[int]:
        """See `RunStore`."""
        return self._store.timestamps(key)

    def _look(self, points: Sequence[Point]) -> None:
        keys = {point.key for point in points}
        since_ms = min(self._sent_ms or (point.timestamp_ms for point in points))
        latest = self._store.read().latest
        self._looks_left -= 1
        times_ms = {latest[key].timestamp_ms for key in keys & latest.keys()}
        if any(time_ms >= since_ms for time_ms in times_ms - self._sent_ms):
            self._keep_apart()

    def _keep_apart(self) -> None:
        self._looks_left = 0
        self._store = self._open_store(replace(self._address, prefix=self._own_prefix))
        warn_once(
            f"another host, or another container, logs system metrics to {self._address} under "
            f"{self._address.prefix}…; those of this one go under {self._own_prefix}… from now on. "
            "Give each host a name of its own in MLFLOW_SYSTEM_METRICS_NODE_ID, set where the "
            "process starts: a variable in a batch script is expanded once, on the first node"
        )
