"""The public monitors: `monitor(...)`, and the class that MLflow constructs for each run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
from mlflow.system_metrics.system_metrics_monitor import (
    SystemMetricsMonitor as MlflowSystemMetricsMonitor,
)

from mlflow_sysmetrics.distributed.leader import nodes_of, tag_of_resumed_run, with_node
from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.isolation import Contained, contained
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from typing_extensions import Self


class RunMonitor:
    """Samples the host and this process's tree, and logs to one run.

    `start()` and `finish()` raise nothing and return within a bounded time. As a context manager
    it is started on entry and finished on exit.

    Args:
        opening: The run, and what to sample for it.
    """

    def __init__(self, opening: registry.RunRequest) -> None:
        self.opening = opening
        self.open_run: registry.OpenRun | None = None
        for problem in opening.settings.problems:
            warn_once(problem)

    def start(self) -> None:
        """Start sampling; calling it again changes nothing."""
        if self.open_run is not None:
            return
        with self._contained("is not sampled"):
            self.open_run = registry.open_run(self.opening)

    def finish(self) -> None:
        """Take a last sample and wait, at most the flush timeout, until all is sent."""
        open_run, self.open_run = self.open_run, None
        if open_run is not None:
            with self._contained("may lack its last system metrics"):
                open_run.close()

    def _contained(self, what: str) -> Contained:
        return contained(
            f"run {self.opening.run_id} {what}", tracking_uri=self.opening.tracking_uri
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.finish()


class SystemMetricsMonitor(MlflowSystemMetricsMonitor):
    """Takes the place of MLflow's class of this name: same arguments, `start()`, `finish()`.

    Environment variables win over the arguments, as they do in MLflow.

    Args:
        run_id: The run to log to.
        sampling_interval: Seconds between two samples.
        samples_before_logging: Samples that are combined into one logged point.
        resume_logging: Whether the run existed before: its steps then continue.
        node_id: Name of this node, inserted into the metric keys.
        tracking_uri: The run's store; None for MLflow's current tracking URI.
    """

    def __init__(  # the base's constructor would open MLflow's own collectors
        self,
        run_id: str,
        sampling_interval: float = 10,
        samples_before_logging: int = 1,
        resume_logging: bool = False,  # noqa: FBT001, FBT002 - MLflow's signature
        node_id: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        settings = Settings.from_env()
        arguments = {
            "sampling_interval_s": sampling_interval,
            "samples_before_logging": samples_before_logging,
            "node_id": node_id,
        }
        unset = {name: v for name, v in arguments.items() if name not in settings.origins}
        given = settings.overridden(**unset)
        in_force = given if given.node_id else with_node(given, is_shared=resume_logging)
        self._monitor = RunMonitor(
            registry.RunRequest(
                run_id,
                tracking_uri or mlflow.get_tracking_uri(),
                in_force,
                resumed=resume_logging,
                tags=tag_of_resumed_run(in_force) if resume_logging else {},
                nodes=1 if given.node_id else nodes_of(in_force),
            )
        )

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._monitor.opening.settings

    def start(self) -> None:
        """Start sampling; raises nothing and returns at once."""
        self._monitor.start()

    def finish(self) -> None:
        """End: a last sample, and at most the flush timeout until all is sent; raises nothing."""
        open_run = self._monitor.open_run
        self._monitor.finish()
        if open_run is not None and open_run.refcount > 0:
            self._wait_for_next_end(open_run)

    def _wait_for_next_end(self, open_run: registry.OpenRun) -> None:
        """Let another thread that has this run open end it later.

        MLflow keeps one monitor per run id, so one of the two threads' monitors was overwritten.
        """
        monitors = getattr(mlflow.tracking.fluent, "run_id_to_system_metrics_monitor", {})
        if monitors.setdefault(self._monitor.opening.run_id, self) is self:
            self._monitor.open_run = open_run


def monitor(
    run_id: str | None = None,
    tracking_uri: str | None = None,
    *,
    sampling_interval: float | None = None,
    samples_before_logging: int | None = None,
    node_id: str | None = None,
) -> RunMonitor:
    """Monitor a run that this process does not open through `mlflow.start_run`.

    ```python
    run = MlflowClient().create_run(experiment_id)
    with mlflow_sysmetrics.monitor(run.info.run_id):
        train()
    ```

    It works whether or not `sysmonitor` is switched on, and a run that is already monitored is not
    sampled twice. If `sysmetrics` is switched on, the run also gets the host's tags that it lacks.

    Args:
        run_id: The run; by default the active one.
        tracking_uri: Its store; by default MLflow's current tracking URI.
        sampling_interval: Seconds between two samples.
        samples_before_logging: Samples that are combined into one logged point.
        node_id: Name of this node, inserted into the metric keys.
            These three win over the environment variables.

    Returns:
        A context manager that also has `start()` and `finish()`.

    Raises:
        ValueError: No `run_id` is given and no run is active.
    """
    if run_id is None:
        active = mlflow.active_run()
        if active is None:
            raise ValueError(
                "no run to monitor: give a run_id, or call this after mlflow.start_run()"
            )
        run_id = active.info.run_id
    settings = Settings.from_env().overridden(
        sampling_interval_s=sampling_interval,
        samples_before_logging=samples_before_logging,
        node_id=node_id,
    )
    return RunMonitor(
        registry.RunRequest(
            run_id,
            tracking_uri or mlflow.get_tracking_uri(),
            settings,
            resumed=True,
            poll_status=True,
        )
    )
