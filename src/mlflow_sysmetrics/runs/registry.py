"""The open runs of this process: a run opened several times is sampled once."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog import PREFIX, PROCESS_PREFIX
from mlflow_sysmetrics.delivery.backlog import Backlog
from mlflow_sysmetrics.delivery.channel import Channel
from mlflow_sysmetrics.delivery.run_address import RunAddress, portable_uri
from mlflow_sysmetrics.delivery.spool import owned_files
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.delivery.tracking import active_workspace
from mlflow_sysmetrics.delivery.uploader import Uploader
from mlflow_sysmetrics.distributed import domain
from mlflow_sysmetrics.distributed.claim import Claim
from mlflow_sysmetrics.distributed.leader import counts_this_rank, host_with_ranks
from mlflow_sysmetrics.distributed.standby import Standby
from mlflow_sysmetrics.export.exports import Exports
from mlflow_sysmetrics.facts import host_tags
from mlflow_sysmetrics.host.file_helper import start_helpers
from mlflow_sysmetrics.host.forks import after_fork_in_child
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.runs import unsampled as unsampled_runs
from mlflow_sysmetrics.runs.exported import exported_run
from mlflow_sysmetrics.runs.observed import RunBeside, last_word_of, observer_of
from mlflow_sysmetrics.runs.paced_sink import PACE_MS, PacedSink
from mlflow_sysmetrics.runs.switch import SYSMETRICS, switched_on
from mlflow_sysmetrics.sampling.recorder import Recorder
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.sampler import Sampler
from mlflow_sysmetrics.settings import matches_any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlflow_sysmetrics.host.host import Host
    from mlflow_sysmetrics.insight.observer import RunObserver
    from mlflow_sysmetrics.sampling.sink import Sink
    from mlflow_sysmetrics.settings import Settings


_ENDED_KEPT = 4
"""Runs that other processes ended: this one may end before their last records are sent."""


@dataclass(frozen=True)
class RunRequest:
    """A request to sample a run.

    Attributes:
        run_id: The run.
        tracking_uri: Its store.
        settings: The run's settings.
        resumed: Whether it existed before: then its steps continue, and it gets the host's tags
            that it lacks, if they are switched on.
        collectors: None for those of this host and process.
        prefix: What the keys of the process tree's metrics begin with, below `system/`.
        on_end: Called when sampling stops because the process or the run ended. None to go on
            without the process.
        poll_status: Whether code that does not notify us may end the run: its status is then
            polled, and sampling stops once it has ended.
        tags: Set as the run opens.
        is_of_other_host: Whether a process of another host opened it, so that the host's tags are
            that host's.
        nodes: How many hosts the job has that opened it; 1 where that is not known.
        has_own_keys: Whether no other host can log under the same keys, since the launcher has
            numbered the hosts.
    """

    run_id: str
    tracking_uri: str = field(repr=False)  # may have a password
    settings: Settings
    resumed: bool
    collectors: CollectorSet | None = None
    prefix: str = PROCESS_PREFIX
    on_end: Callable[[], None] | None = None
    poll_status: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    is_of_other_host: bool = False
    nodes: int = 1
    has_own_keys: bool = False

    @property
    def key(self) -> tuple[str, str, CollectorSet | None]:
        """Requests with equal keys are for the same run."""
        return (portable_uri(self.tracking_uri), self.run_id, self.collectors)

    @property
    def key_prefix(self) -> str:
        """What the keys of all metrics begin with."""
        node_id = self.settings.node_id
        return PREFIX + (f"{node_id}/" if node_id else "")

    @property
    def series(self) -> str:
        """Equal for two requests that would log to the same metric keys."""
        return "\n".join((*self.key[:2], self.key_prefix + self.prefix))


class OpenRun:
    """A run that is being sampled.

    The same run may be opened several times, for example by two threads; it closes with the last
    `close()`. While another process of this host samples it, this one stands by.
    """

    def __init__(self, opening: RunRequest, claim: Claim, runs: OpenRuns) -> None:
        self.key = opening.key
        self.opening = opening
        self.claim = claim
        self.recorder: Recorder | Standby
        self.refcount = 0
        self._runs = runs

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it, nor ended the run."""
        return self._runs is _this_process.runs and self._runs.is_held(self)

    def put_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, less those that the run's settings exclude; returns at once."""
        excluded = self.opening.settings.exclude_tags
        wanted = {key: tag for key, tag in tags.items() if not matches_any(key, excluded)}
        if wanted:
            self.recorder.put(tags=wanted)

    def end(self) -> None:
        """End at once what is sampled for a run that another process has ended."""
        if self._runs is _this_process.runs:
            self._runs.end(self)

    def close(self) -> None:
        """Close the run once; the last close waits, within a bound, until all is sent."""
        # Else it belongs to the process that this one was forked from.
        if self._runs is _this_process.runs:
            self._runs.release(self)


class OpenRuns:
    """The open runs of one process, and the threads that serve them.

    Attributes:
        sampler: Samples for all runs.
        exports: Where their samples go beside their stores.
    """

    def __init__(self, host: Host) -> None:
        self.sampler = Sampler(host.clock)
        self._uploaders: dict[str, Uploader] = {}
        self.exports = Exports(host.clock)
        self._backlog = Backlog()
        self._host = host
        self._collectors = CollectorSet(host)
        self._collectors.load()
        self._lock = threading.RLock()
        self._by_key: dict[tuple[str, str, CollectorSet | None], OpenRun] = {}
        self._ended: deque[Recorder | Standby] = deque(maxlen=_ENDED_KEPT)

    def acquire(self, opening: RunRequest) -> OpenRun:
        """Open a run, or count one more user of an open one."""
        unsampled_runs.is_sampled(opening.run_id)
        with self._lock:
            run = self._by_key.get(opening.key)
            if run is None:
                run = self._begin(opening)
                self._by_key[opening.key] = run
            run.refcount += 1
            return run

    def has(self, opening: RunRequest) -> bool:
        """Whether an open run logs to the same metric keys."""
        with self._lock:
            return any(run.opening.series == opening.series for run in self._by_key.values())

    def is_held(self, run: OpenRun) -> bool:
        """Whether a run is open still."""
        with self._lock:
            return self._by_key.get(run.key) is run

    def begin_to_end(self, run_id: str) -> None:
        """Take the last sample of a run that MLflow is about to end, and begin to send it."""
        with self._lock:
            for run in self._by_key.values():
                is_mlflows = run.opening.prefix == PROCESS_PREFIX and not run.opening.poll_status
                if run.opening.run_id == run_id and is_mlflows and run.refcount == 1:
                    run.recorder.begin_to_stop()

    def release(self, run: OpenRun) -> None:
        """Close a run when its last user has closed it."""
        with self._lock:
            run.refcount -= 1
            if run.refcount > 0 or self._by_key.get(run.key) is not run:
                return
            del self._by_key[run.key]
        try:
            run.recorder.close()
        finally:
            run.claim.release()

    def close_all(self) -> None:
        """Close what is still open, at the interpreter's exit, all within one flush timeout."""
        with self._lock:
            runs = list(self._by_key.values())
            self._by_key.clear()
        left = [run.recorder for run in runs]
        began_s = time.monotonic()
        timeout_s = max((each.store_timeout_s for each in (*left, *self._ended)), default=0)
        with ExitStack() as stack:  # Ctrl-C during one run does not skip the others
            for run in runs:
                stack.callback(run.claim.release)
            for recorder in (*reversed(left), *self._ended):
                stack.callback(recorder.deliver, began_s + timeout_s)
            for recorder in left:
                recorder.stop(began_s + timeout_s / 2)

    def _begin(self, opening: RunRequest) -> OpenRun:
        """Sample a run, or stand by while another process of this host does."""
        here = domain.sampling_domain(self._host)
        run = OpenRun(opening, Claim(here, opening.series), self)
        if run.claim.acquire():
            try:
                self._record(run, opening)
            except RuntimeError:
                run.claim.release()
                raise
            return run
        standby = Standby(run.claim, self._host, self.sampler, partial(self._take_over, run))
        run.recorder = standby
        standby.open()
        if counts_this_rank(run.claim.holder()):
            return run
        standby.warn_if_not_counted(opening.run_id, Claim(here, f"said of run {opening.run_id}"))
        return run

    def _record(self, run: OpenRun, opening: RunRequest) -> None:
        recorder = self._recorder(run, opening)
        recorder.open()
        run.recorder = recorder
        run.put_tags(opening.tags)

    def _take_over(self, run: OpenRun) -> None:
        """Continue for a process that has ended."""
        with self._lock:
            if self._by_key.get(run.key) is run:
                self._record(run, replace(run.opening, resumed=True))
            else:
                run.claim.release()

    def end(self, run: OpenRun) -> None:
        """Stop sampling a run that other code has ended."""
        with self._lock:
            if self._by_key.get(run.key) is not run:
                return
            del self._by_key[run.key]
            self._ended.append(run.recorder)
        run.recorder.end()
        run.claim.release()
        if run.opening.on_end is not None:
            run.opening.on_end()
        logger.info("run %s has ended; its sampling has stopped", run.key[1])

    def _uploader(self, opening: RunRequest, folder: Path | None) -> Uploader:
        uploader = self._uploaders.get(opening.tracking_uri)
        if uploader is None:
            uploader = Uploader(opening.tracking_uri, self._backlog)
            self._uploaders[opening.tracking_uri] = uploader
            if folder is not None:
                uploader.send_leftovers(folder)
        return uploader

    def _recorder(self, run: OpenRun, opening: RunRequest) -> Recorder:
        start_helpers(os.curdir, opening.settings.spool_folder)
        folder = opening.settings.spool_folder
        address = RunAddress(
            opening.run_id, opening.tracking_uri, opening.key_prefix, active_workspace()
        )
        stream = Stream(
            address,
            folder,
            _tags(opening),
            self._own_prefix(opening) if opening.resumed and not opening.has_own_keys else None,
            last_word_of(opening.settings, opening.nodes, self._outer_run_id(run)),
        )
        on_end = partial(self.end, run) if opening.poll_status else None
        channel = Channel(self._uploader(opening, folder), stream, on_end)
        return Recorder(
            opening.settings,
            opening.collectors or self._collectors,
            self._sink(opening, address, channel),
            self.sampler,
            self._host.clock,
            opening.prefix,
            opening.on_end,
            self._observer(run, opening, address),
        )

    def _sink(self, opening: RunRequest, address: RunAddress, channel: Channel) -> Sink:
        sink = PacedSink(channel, PACE_MS) if opening.is_of_other_host else channel
        if opening.prefix != PROCESS_PREFIX:  # another process of the same run
            return sink
        run = exported_run(address, opening.settings, is_of_other_host=opening.is_of_other_host)
        return self.exports.open(run, opening.collectors, sink) if run is not None else sink

    def _observer(
        self, run: OpenRun, opening: RunRequest, address: RunAddress
    ) -> RunObserver | None:
        if opening.prefix != PROCESS_PREFIX:  # another process of the same run
            return None
        return observer_of(
            opening.settings,
            address,
            self._host.clock,
            resumed=opening.resumed,
            beside=RunBeside(opening.nodes, self._outer_run_id(run)),
        )

    def _outer_run_id(self, run: OpenRun) -> str | None:
        """The run that was open before this one, if its samples are of the same process tree."""
        return next(
            (
                each.opening.run_id
                for each in self._by_key.values()
                if each is not run and each.opening.collectors is run.opening.collectors
            ),
            None,
        )

    def _own_prefix(self, opening: RunRequest) -> str:
        """Prefix of the keys if another host already uses the usual ones."""
        may_be_named = not matches_any("sys.hostname", opening.settings.exclude_tags)
        name = domain.name_of_host(self._host, may_be_named=may_be_named)
        return f"{opening.key_prefix.rstrip('/')}{'-' if opening.settings.node_id else '/'}{name}/"


class _ThisProcess:
    """The open runs of this process, and its end.

    Attributes:
        runs: The registry; None before the first run.
    """

    def __init__(self) -> None:
        self.runs: OpenRuns | None = None
        self._lock = threading.RLock()
        self._is_hooked = False

    def open_runs(self) -> OpenRuns:
        """The registry, made when it is first needed."""
        with self._lock:
            if self.runs is None:
                self.runs = OpenRuns(host_with_ranks())
                self._install_hooks()
            return self.runs

    def _install_hooks(self) -> None:
        if not self._is_hooked:  # a forked child inherits what is registered
            self._is_hooked = True
            atexit.register(self.close_all)
        if multiprocessing.parent_process() is not None:  # if forked, it calls no `atexit`
            Finalize(None, self.close_all, exitpriority=0)

    def close_all(self) -> None:
        """Close what is open, as the process ends."""
        if self.runs is not None:
            self.runs.close_all()

    def after_fork(self) -> None:
        """A child inherits no thread, run or unsent point."""
        owned_files.disown_all()
        if self.runs is not None:
            self.runs.exports.after_fork_in_child()
        self.runs = None
        self._lock = threading.RLock()


_this_process = _ThisProcess()

after_fork_in_child(_this_process.after_fork)


def open_run(opening: RunRequest) -> OpenRun:
    """Start sampling a run; returns at once.

    Raises:
        RuntimeError: No thread can be started (interpreter shutdown).
    """
    return _this_process.open_runs().acquire(opening)


def close_all() -> None:
    """Close all runs that are open in this process, within one flush timeout."""
    _this_process.close_all()


def begin_to_end(run_id: str) -> None:
    """MLflow is about to end a run, which may be open in this process; returns at once."""
    runs = _this_process.runs
    if runs is not None:
        runs.begin_to_end(run_id)


def sampler_thread() -> threading.Thread | None:
    """The thread that samples for all runs of this process; None while no run is open."""
    runs = _this_process.runs
    return runs.sampler.thread if runs is not None else None


def is_open(opening: RunRequest) -> bool:
    """Whether this process already logs to the same metric keys."""
    runs = _this_process.runs
    return runs is not None and runs.has(opening)


def _tags(opening: RunRequest) -> Callable[[], Mapping[str, str]] | None:
    """Gives the tags that a run lacks which existed before; None for a new one."""
    if not opening.resumed:
        return None
    return dict if opening.is_of_other_host else partial(_tags_of_resumed_run, opening.settings)


def _tags_of_resumed_run(settings: Settings) -> Mapping[str, str]:
    """MLflow does not ask context providers when a run is resumed."""
    return host_tags(exclude=settings.exclude_tags) if switched_on(SYSMETRICS) else {}
