"""What the open runs of this process hand to its exporters."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from mlflow_sysmetrics.export.contract import CannotExport, Sample
from mlflow_sysmetrics.export.exporters import kind_of
from mlflow_sysmetrics.export.measuring import Measuring
from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.isolation import contained
from mlflow_sysmetrics.sampling.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from mlflow_sysmetrics.export.contract import ExportedRun, Exporter
    from mlflow_sysmetrics.host.clock import Clock
    from mlflow_sysmetrics.sampling.sink import Record
    from mlflow_sysmetrics.sampling.window import Readings


class Exports:
    """The exporters of this process, opened when a run first asks for them, and shared.

    Args:
        clock: The host's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._exporters: dict[str, Exporter | None] = {}
        self._open: dict[Hashable, list[ExportingSink]] = {}

    def open(self, run: ExportedRun, sampled: Hashable, sink: Sink) -> Sink:
        """A run's sink that exports beside.

        Args:
            run: The run; it opens now.
            sampled: Equal for runs whose samples are of the same host and process tree.
            sink: Where its records go.
        """
        exporters = {
            target: exporter
            for target in run.settings.export
            if (exporter := self._exporter(target)) is not None
        }
        if not exporters:
            return sink
        with self._lock:
            runs = self._open.setdefault(sampled, [])
        to_epoch_s = self._clock.wall_ms() / 1000 - self._clock.now_s()
        return ExportingSink(sink, run, exporters, runs, to_epoch_s)

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's."""
        for exporter in self._exporters.values():
            if exporter is not None:
                exporter.after_fork_in_child()

    def _exporter(self, target: str) -> Exporter | None:
        with self._lock:
            if target not in self._exporters:
                self._exporters[target] = _opened(target)
            return self._exporters[target]


def _opened(target: str) -> Exporter | None:
    """An exporter; where there is none, one warning says why."""
    what = f"this process exports nothing to {target}"
    with contained(what):
        try:
            return kind_of(target).open(target)
        except CannotExport as error:
            warn_once(f"{what}: {error}")
    return None


class ExportingSink(Sink):
    """Hands the samples of one run to the exporters; see `Sink` for its methods.

    Args:
        sink: Where the run's records go.
        run: The run.
        exporters: By target.
        runs: The open runs with the same host and process tree, in the order in which they opened;
            the first of them has the series.
        to_epoch_s: From the host's clock to seconds since the epoch.
    """

    def __init__(
        self,
        sink: Sink,
        run: ExportedRun,
        exporters: Mapping[str, Exporter],
        runs: list[ExportingSink],
        to_epoch_s: float,
    ) -> None:
        self._sink = sink
        self._run = run
        self._exporters = exporters
        self._runs = runs
        self._measuring = Measuring(run.settings, to_epoch_s)
        self._to_epoch_s = to_epoch_s
        self._lock = threading.Lock()
        self._is_open = True
        runs.append(self)

    def take(self, sample: Sequence[Readings]) -> None:
        """Measure it, if the series are this run's, and hand it on."""
        with self._lock, contained(f"the samples of run {self._run.run_id} are not exported"):
            if not (sample and self._is_open):
                return
            handed_on = self._sample(sample)
            for target, exporter in self._exporters.items():
                with contained(f"a sample was not exported to {target}", subject=target):
                    exporter.put(handed_on)

    def put(self, record: Record) -> None:
        """Pass a record on."""
        self._sink.put(record)

    def end(self) -> None:
        """The run's series end; the next run has those of the host from its next sample on."""
        self._sink.end()
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            self._runs.remove(self)
            for target, exporter in self._exporters.items():
                with contained(f"series of ended runs may remain in {target}", subject=target):
                    exporter.end(self._run)

    def close(self, timeout_s: float) -> None:
        """Wait for the store and for the exporters, all within the timeout."""
        deadline_s = time.monotonic() + timeout_s
        self._sink.close(timeout_s)
        for target, exporter in self._exporters.items():
            with contained(f"the last samples may not be exported to {target}", subject=target):
                exporter.wait(max(0.0, deadline_s - time.monotonic()))

    def _sample(self, sample: Sequence[Readings]) -> Sample:
        run, first = self._run, self._runs[0]
        measured = self._measuring.measure(sample) if first is self else ()
        names = run.names()
        info = {} if names is None else {**names, "series_run_id": first._run.run_id}  # noqa: SLF001 - of its own class
        return Sample(
            run=run,
            series_run_id=first._run.run_id,  # noqa: SLF001 - of its own class
            started_s=self._measuring.started_s,
            taken_s=max(each.time_s for each in sample) + self._to_epoch_s,
            measurements=measured,
            info=tuple(info.items()),
        )
