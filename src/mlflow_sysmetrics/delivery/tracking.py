"""The calls to MLflow Tracking that delivery makes; all of them from the uploader's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.delivery.outbox import Point

MAX_METRICS_A_BATCH = 1000
"""MLflow's limit for one `log_batch`."""

_PERMANENT = {
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "ENDPOINT_NOT_FOUND",
}


class Refused(Exception):  # noqa: N818 - an answer of the server, not an error of ours
    """The store will never take this; the message is its reason."""


class RunStore:
    """One run in one tracking store.

    Args:
        run_id: The run.
        tracking_uri: Where it lives.
        prefix: What our metric keys begin with.
    """

    def __init__(self, run_id: str, tracking_uri: str, prefix: str) -> None:
        self._run_id = run_id
        self._prefix = prefix
        self._client = MlflowClient(tracking_uri)

    def log(self, points: Sequence[Point]) -> None:
        """Store metric points, at most `MAX_METRICS_A_BATCH`.

        Raises:
            Refused: The store will never take them.
            Exception: Whatever else MLflow raises; to be tried again.
        """
        metrics = [
            Metric(self._prefix + point.key, point.value, point.timestamp_ms, point.step)
            for point in points
        ]
        self._log_batch(metrics=metrics)

    def resume(self, tags: Mapping[str, str]) -> int:
        """Take up a run that existed before: set `tags` if it has none of them.

        The step is read from the run's latest metrics, never from a history.

        Returns:
            The step after the run's last point of ours; 0 where it has none.

        Raises:
            Refused: The run cannot be read or tagged, now or later.
            Exception: Whatever else MLflow raises; to be tried again.
        """
        try:
            data = self._client.get_run(self._run_id).data
        except MlflowException as error:
            _raise_if_permanent(error)
            raise
        if tags and not data.tags.keys() & tags.keys():
            self._log_batch(tags=[RunTag(key, value) for key, value in tags.items()])
        # Public accessors give values without steps; MLflow's own monitor reads it so, too.
        latest = data._metric_objs  # noqa: SLF001 - as said
        steps = [metric.step for metric in latest if metric.key.startswith(self._prefix)]
        return max(steps, default=-1) + 1

    def _log_batch(self, metrics: Sequence[Metric] = (), tags: Sequence[RunTag] = ()) -> None:
        try:
            # Else MLFLOW_ENABLE_ASYNC_LOGGING would hand it to a queue that the run's end shuts.
            self._client.log_batch(self._run_id, metrics=metrics, tags=tags, synchronous=True)
        except MlflowException as error:
            _raise_if_permanent(error)
            raise


def _raise_if_permanent(error: MlflowException) -> None:
    if error.error_code in _PERMANENT:
        raise Refused(error.message) from error
