"""`ProcessMetricsMonitor`: the metrics of one process and its children, of whatever language."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import mlflow
import psutil

from mlflow_sysmetrics.catalog import PREFIX, PROCESS_PREFIX
from mlflow_sysmetrics.collectors.process_tree import open_process_tree
from mlflow_sysmetrics.delivery.run_address import RunAddress
from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.log.isolation import contained
from mlflow_sysmetrics.log.text import clean_key
from mlflow_sysmetrics.runs import registry
from mlflow_sysmetrics.runs.monitors import RunMonitor
from mlflow_sysmetrics.sampling.runner import PROCESS_TREE
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.sink import Point
from mlflow_sysmetrics.sampling.window import Window
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Self

    from mlflow_sysmetrics.collectors.contract import Collector

_FIRST_LOOK_S = 0.2
_MAX_PREFIX_LENGTH = 150  # MLflow takes keys of 250 characters


class ProcessMetricsMonitor:
    """Samples a process and its children, and logs to a run.

    A script for stouputils' class of this name works with the import changed. These
    differ: keys are always below `system/` (by default `system/process/…`), which puts the
    charts into the *System metrics* tab; megabytes are 10^6 bytes; `cpu_usage_percentage` is 100
    for one busy core, and `cpu_utilization_percentage` is the share of `max_cpu_count`; what
    cannot be read is left out; I/O is counted since the start; and the monitor ends, after a last
    point, with the process.

    Nothing here raises. May be used as a context manager, also with `async with`.

    Args:
        pid: The process; this one where it is None.
        children: Whether its children, and theirs, are part of it.
        sampling_interval: Seconds between two samples.
        samples_before_logging: Samples that are combined into one logged point.
        prefix: Prefix of the metric keys, below `system/`; characters that MLflow does not accept
            in a key become `_`.
        verbose: Whether to log start and end at info level.
        max_memory_megabytes: 100 % of `memory_usage_percentage`; None for the container's limit, or
            else the host's memory.
        max_cpu_count: 100 % of `cpu_utilization_percentage`; None for the CPUs that the process may
            use.
        run_id: The run to log to; None for the active one.
        tracking_uri: The run's store; None for MLflow's current tracking URI.

    Attributes:
        shutdown_event: Set while nothing is sampled.
        step: Of the next point that `publish` logs.
    """

    def __init__(  # noqa: PLR0913 - stouputils' signature
        self,
        pid: int | None = None,
        children: bool = True,  # noqa: FBT001, FBT002 - as above
        sampling_interval: float = 10.0,
        samples_before_logging: int = 1,
        prefix: str = PROCESS_PREFIX,
        verbose: bool = False,  # noqa: FBT001, FBT002 - as above
        max_memory_megabytes: float | None = None,
        max_cpu_count: float | None = None,
        *,
        run_id: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        self.pid = os.getpid() if pid is None else pid
        self.children = children
        self.sampling_interval = sampling_interval
        self.samples_before_logging = samples_before_logging
        self.prefix = clean_key(prefix.removeprefix(PREFIX), _MAX_PREFIX_LENGTH)
        self.verbose = verbose
        self.max_memory_megabytes = max_memory_megabytes
        self.max_cpu_count = max_cpu_count
        self.run_id = run_id
        self.tracking_uri = tracking_uri
        self.step = 0
        self.shutdown_event = threading.Event()
        self.shutdown_event.set()
        self._monitor: RunMonitor | None = None
        self._looks: tuple[CollectorSet, Window] | None = None

    @property
    def thread(self) -> threading.Thread | None:
        """The thread that samples, one for all runs of this process; None while none does."""
        return None if self.shutdown_event.is_set() else registry.sampler_thread()

    @property
    def processes(self) -> dict[int, psutil.Process]:
        """The monitored processes, by pid; empty if the root has ended."""
        try:
            root = psutil.Process(self.pid)
            members = [root, *(root.children(recursive=True) if self.children else [])]
        except psutil.Error:
            return {}
        return {member.pid: member for member in members}

    def start(self) -> None:
        """Start sampling; if that is not possible, a warning says what is needed."""
        if not self.shutdown_event.is_set():
            self._warn("is running already")
            return
        self.finish()  # where it has ended with the process
        if not psutil.pid_exists(self.pid):
            self._warn(f"does not start: there is no process {self.pid}")
            return
        run_id = self.run_id or _active_run_id()
        if run_id is None:
            self._warn("does not start: no run is active; start one before, or give it a run_id")
            return
        self.run_id = run_id
        opening = self._opening(run_id)
        if registry.is_open(opening):
            self._warn(
                "does not start: sysmonitor or another monitor already logs metrics of the same "
                "names to this run; give it another prefix"
            )
            return
        self.shutdown_event.clear()  # now, since the process may end at once
        monitor = RunMonitor(opening)
        monitor.start()
        if monitor.open_run is None:  # it has warned
            self.shutdown_event.set()
            return
        self._monitor = monitor
        self._report("monitors")

    def finish(self) -> None:
        """End: a last sample, and at most the flush timeout until all is sent."""
        if self._monitor is None:
            return
        self._monitor.finish()
        self._monitor = None
        self.shutdown_event.set()
        self._report("no longer monitors")

    def collect_once(self) -> dict[str, float]:
        """The metrics since the last call, by key without the prefix; empty without the process.

        The first call lasts a fifth of a second, over which it measures the rates.
        """
        if self._looks is None:
            self._looks = self._collectors(), Window()
            self._look(*self._looks)
            time.sleep(_FIRST_LOOK_S)
        return self._look(*self._looks)

    def aggregate(self, samples: Iterable[Mapping[str, float]]) -> dict[str, float]:
        """The mean of each key over the samples that have it."""
        values = defaultdict(list)
        for sample in samples:
            for key, value in sample.items():
                values[key].append(value)
        return {key: sum(each) / len(each) for key, each in values.items()}

    def publish(self, metrics: Mapping[str, float]) -> None:
        """Log metrics to the run, under the prefix, at the next step."""
        run_id = self.run_id or _active_run_id()
        if run_id is None:
            self._warn("publishes nothing: no run is active, and it was given no run_id")
            return
        timestamp_ms = time.time_ns() // 1_000_000
        points = [
            Point(self.prefix + key, value, timestamp_ms, self.step)
            for key, value in metrics.items()
        ]
        uri = self._store_uri()
        what = f"ProcessMetricsMonitor could not publish step {self.step}"
        with contained(what, tracking_uri=uri):
            open_store(RunAddress(run_id, uri, PREFIX)).log(points, {})
        self.step += 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.finish()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_exception: object) -> None:
        await asyncio.to_thread(self.finish)  # it waits, and must not block the event loop

    def _opening(self, run_id: str) -> registry.RunRequest:
        settings = Settings.from_env().overridden(
            sampling_interval_s=self.sampling_interval,
            samples_before_logging=self.samples_before_logging,
        )
        return registry.RunRequest(
            run_id,
            self._store_uri(),
            settings,
            resumed=True,
            collectors=self._collectors(),
            prefix=self.prefix,
            on_end=self.shutdown_event.set,
            poll_status=True,
        )

    def _collectors(self) -> CollectorSet:
        return CollectorSet(Host(pid=self.pid), lambda: ((PROCESS_TREE, self._open_tree),))

    def _open_tree(self, host: Host) -> Collector:
        return open_process_tree(
            host,
            children=self.children,
            cpus=self.max_cpu_count,
            memory_bytes=self.max_memory_megabytes and self.max_memory_megabytes * 1e6,
        )

    def _look(self, collectors: CollectorSet, window: Window) -> dict[str, float]:
        window.add(collectors.collect())
        values = {key.removeprefix(PROCESS_PREFIX): value for key, value in window.close().items()}
        return values if "num_processes" in values else {}  # else only what sampling cost

    def _store_uri(self) -> str:
        return self.tracking_uri or mlflow.get_tracking_uri()

    def _warn(self, what: str) -> None:
        logger.warning("ProcessMetricsMonitor %s", what)

    def _report(self, what: str) -> None:
        if self.verbose:
            logger.info("ProcessMetricsMonitor %s process %d", what, self.pid)


def _active_run_id() -> str | None:
    run = mlflow.active_run()
    return run.info.run_id if run is not None else None
