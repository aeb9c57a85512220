"""Which points a store has already: what is sent twice is to be stored once.

SQL stores see to that themselves, file stores do not, and a server does not tell which it has.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.outbox import samples_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.sampling.sink import Point, Record

_COUNTED_AT_ONCE = 1000  # samples


class StoredPoints:
    """The points of one batch that its store has when this is made.

    Points are told apart by their metric and timestamp: no two of one process have both in common.
    What joins the batch later was not sent before, so the store does not have it.

    Args:
        store: The run in its store.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._latest = store.read().latest
        self._timestamps: dict[str, frozenset[int]] = {}

    def look_up(self, points: Sequence[Point]) -> bool:
        """Find out which of the points are stored; asks for the history of one metric at most.

        Returns:
            Whether all is known; if not, this is to be called again.

        Raises:
            Exception: What `RunStore.timestamps` raises.
        """
        sent_together = frozenset(point.timestamp_ms for point in points)
        for point in points:
            if point.key in self._timestamps:
                continue
            latest = self._latest.get(point.key)
            if latest is None or latest.timestamp_ms < point.timestamp_ms:
                self._timestamps[point.key] = frozenset()
            elif latest.timestamp_ms in sent_together:  # in order: then also all before it
                self._timestamps[point.key] = frozenset(
                    time_ms for time_ms in sent_together if time_ms <= latest.timestamp_ms
                )
            else:  # of a whole history, nothing is kept but what is asked about
                self._timestamps[point.key] = sent_together & self._store.timestamps(point.key)
                return False
        return True

    def missing(self, points: Sequence[Point]) -> list[Point]:
        """Those that the store does not have, once they are looked up."""
        return [each for each in points if each.timestamp_ms not in self._timestamps[each.key]]


def count_missing(samples: Iterator[Record], store: RunStore) -> int:
    """How many samples, in order, a store lacks some points of.

    Raises:
        Exception: What `RunStore` raises.
    """
    count = 0
    while batch := list(islice(samples, _COUNTED_AT_ONCE)):
        points = [point for sample in batch for point in sample.points(0)]
        stored = StoredPoints(store)
        while not stored.look_up(points):
            pass
        missing = stored.missing(points)
        lacking = {point.step for point in missing}
        count += samples_of(s for s in batch if s.step in lacking or not s.values)
        if points and len(missing) == len(points):  # in order: then the rest, too
            return count + samples_of(samples)
    return count
