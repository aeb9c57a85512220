"""Batches that a store takes: not too large, and without metrics that it calls invalid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.run_store import MAX_METRICS_A_BATCH, InvalidPoints, RunGone
from mlflow_sysmetrics.log import warn_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.sampling.sink import Point

_MAX_TAGS_A_BATCH = 100  # MLflow's limit
_INVALID_AT_FIRST = 5
"""So many metrics, and none that the store takes: then it is to be expected of all others."""


class BatchSender:
    """Logs the points of one run, and learns from what its store does not take.

    Attributes:
        taken: How many points it has taken of the last ones.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._invalid_keys: set[str] = set()

    def log(self, points: Sequence[Point], tags: Mapping[str, str], store: RunStore) -> None:
        """Log points and tags; points of invalid metrics are left out, which is said once.

        Raises:
            InvalidPoints: The store takes none of the points, so it is not a metric's fault.
            Exception: What `RunStore` raises.
        """
        invalid: dict[str, InvalidPoints] = {}
        self.taken = 0
        waiting = [*tags.items()]
        while points or waiting:
            some, waiting = dict(waiting[:_MAX_TAGS_A_BATCH]), waiting[_MAX_TAGS_A_BATCH:]
            count = max(1, store.limits.batch_points - len(some))  # tags count, too
            self._log_some(points[:count], some, store, invalid)
            points = points[count:]
        for key, reason in invalid.items():
            if not self.taken:  # then it is not this metric: something is in disorder, and may pass
                raise reason
            self._invalid_keys.add(key)
            warn_once(f"the store does not take the metric {key}: {reason}")

    def _log_some(
        self,
        points: Sequence[Point],
        tags: Mapping[str, str],
        store: RunStore,
        invalid: dict[str, InvalidPoints],
    ) -> None:
        """Log points; where the store rejects them, find those that it does take.

        Args:
            points: The points.
            tags: Tags to log with them.
            store: Where.
            invalid: Gets the keys that the store does not take, with the reason.
        """
        left_out = self._invalid_keys | invalid.keys()
        points = [point for point in points if point.key not in left_out]
        if not (points or tags):
            return
        try:
            store.log(points, tags)
        except InvalidPoints as error:
            reason = error  # what follows is no part of handling it
        else:
            self.taken += len(points)
            return
        if tags:
            self._log_apart(points, tags, store, invalid, reason)
            return
        if len(points) > 1:
            self._log_halves(points, store, invalid, reason)
            return
        if reason.is_too_large:  # one point is not: something before the store is in disorder
            store.limits.batch_points = MAX_METRICS_A_BATCH
            raise reason
        if not invalid and store.read().is_deleted:
            raise RunGone("the run is deleted") from reason
        invalid.update((point.key, reason) for point in points)
        if len(invalid) == _INVALID_AT_FIRST and not self.taken:
            raise reason

    def _log_apart(
        self,
        points: Sequence[Point],
        tags: Mapping[str, str],
        store: RunStore,
        invalid: dict[str, InvalidPoints],
        reason: InvalidPoints,
    ) -> None:
        """Log points and tags that the store rejects together; a tag that it rejects is left out.

        A tag concerns no metric: points are not kept waiting for it, nor taken for invalid.
        """
        if points:
            self._log_some(points, {}, store, invalid)
            self._log_some([], tags, store, invalid)
        elif len(tags) > 1:
            for key, value in tags.items():
                self._log_some([], {key: value}, store, invalid)
        elif store.read().is_deleted:
            raise RunGone("the run is deleted") from reason
        else:
            warn_once(f"the store does not take the tag {', '.join(tags)}: {reason}")

    def _log_halves(
        self,
        points: Sequence[Point],
        store: RunStore,
        invalid: dict[str, InvalidPoints],
        reason: InvalidPoints,
    ) -> None:
        """Log points that the store rejects together; if none is invalid, they were too many."""
        middle = len(points) // 2
        if reason.is_too_large:
            store.limits.batch_points = middle
        invalid_before, taken_before = len(invalid), self.taken
        self._log_some(points[:middle], {}, store, invalid)
        self._log_some(points[middle:], {}, store, invalid)
        if len(invalid) == invalid_before and self.taken - taken_before == len(points):
            store.limits.batch_points = min(store.limits.batch_points, middle)
