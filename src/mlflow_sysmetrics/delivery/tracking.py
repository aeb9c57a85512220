"""The calls to MLflow Tracking that delivery makes, all from the uploader's thread.

A tracking server is asked through its REST API, one attempt a call: MLflow's own retries take
minutes, in which nothing could be noticed. Every other store is asked through MLflow's client.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking import MlflowClient

from mlflow_sysmetrics.delivery.quiet import quiet_libraries
from mlflow_sysmetrics.delivery.rest import RestRunStore
from mlflow_sysmetrics.delivery.run_store import (
    ENDED,
    LastPoint,
    Limits,
    RunState,
    StoreFailed,
    full_key,
    raise_for,
)
from mlflow_sysmetrics.log.addresses import shown_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow_sysmetrics.delivery.run_address import RunAddress
    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.sampling.sink import Point

try:
    from mlflow.utils.workspace_context import get_request_workspace
except ImportError:  # an MLflow that has no workspaces

    def get_request_workspace() -> str | None:
        """None."""
        return None


def active_workspace() -> str | None:
    """The workspace that this thread's calls to MLflow are for; None for the server's default."""
    workspace: str | None = get_request_workspace()
    return workspace


def open_store(address: RunAddress, limits: Limits | None = None) -> RunStore:
    """The store of a run, asked in the way that suits it.

    Args:
        address: The run.
        limits: What is known of the store's; shared by its runs.

    Raises:
        StoreFailed: It cannot be reached.
    """
    with calling_mlflow(address.tracking_uri):
        client = MlflowClient(address.tracking_uri)
        store = client._tracking_client.store  # noqa: SLF001 - the client shows it nowhere else
    # A plugin's own way to log, if it has one, is left to it.
    if isinstance(store, RestStore) and type(store).log_batch is RestStore.log_batch:
        return RestRunStore(address, store.get_host_creds, limits)
    return ClientRunStore(address, client, limits)


@contextmanager
def calling_mlflow(tracking_uri: str) -> Iterator[None]:
    """Call MLflow, with its loggers quiet; raises what its exceptions mean to delivery.

    Raises:
        StoreFailed: Whatever has no other meaning.
    """
    try:
        with quiet_libraries():
            yield
    except MlflowException as error:
        raise_for(error.error_code, shown_text(error.message, tracking_uri))
        raise StoreFailed.of(error, tracking_uri) from error
    except Exception as error:
        raise StoreFailed.of(error, tracking_uri) from error


class ClientRunStore:
    """A run in a store that MLflow's client reaches itself: files, a database, a plugin's.

    Args:
        address: The run.
        client: MLflow's client of its store.
        limits: What is known of the store's; gets what it refuses.
    """

    def __init__(
        self, address: RunAddress, client: MlflowClient, limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._tracking_uri = address.tracking_uri
        self._run_id = address.run_id
        self._prefix = address.prefix
        self._client = client

    def log(self, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        """See `RunStore`."""
        metrics = [
            Metric(full_key(self._prefix, point), point.value, point.timestamp_ms, point.step)
            for point in points
        ]
        run_tags = [RunTag(key, value) for key, value in tags.items()]
        # Else MLFLOW_ENABLE_ASYNC_LOGGING would hand it to a queue that the run's end shuts.
        with calling_mlflow(self._tracking_uri):
            self._client.log_batch(self._run_id, metrics=metrics, tags=run_tags, synchronous=True)

    def read(self) -> RunState:
        """See `RunStore`."""
        with calling_mlflow(self._tracking_uri):
            run = self._client.get_run(self._run_id)
        # Public accessors give values without steps; MLflow's own monitor reads it so, too.
        metrics = run.data._metric_objs  # noqa: SLF001 - as said
        return RunState(
            tags=run.data.tags,
            latest={
                metric.key.removeprefix(self._prefix): LastPoint(metric.step, metric.timestamp)
                for metric in metrics
                if metric.key.startswith(self._prefix)
            },
            is_deleted=run.info.lifecycle_stage == "deleted",
            has_ended=run.info.status in ENDED,
        )

    def timestamps(self, key: str) -> frozenset[int]:
        """See `RunStore`."""
        with calling_mlflow(self._tracking_uri):
            history = self._client.get_metric_history(self._run_id, self._prefix + key)
        return frozenset(metric.timestamp for metric in history)
