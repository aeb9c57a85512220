"""One thread for each tracking store: it does what the store's schedule says."""

from __future__ import annotations

import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery import leftovers
from mlflow_sysmetrics.delivery.kept_apart import KeptApartStore
from mlflow_sysmetrics.delivery.run_store import Limits, RunNotFound
from mlflow_sysmetrics.delivery.schedule import LONGEST_PAUSE_S, Action, Do, Schedule, Sequel, Task
from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.host.backoff import jitter
from mlflow_sysmetrics.host.forks import CallLock, ForkOrder, hold_during_fork
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log import logger, warn_once
from mlflow_sysmetrics.log.addresses import shown_address, shown_text
from mlflow_sysmetrics.sampling.sink import SAVE_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflow_sysmetrics.delivery.backlog import Backlog
    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.delivery.stream import Stream

LINGER_S = 5.0
"""How long the thread stays after the last run, as the sampler's does."""


def _some_of_a_pause() -> float:
    return jitter(0.5, 1.0)


class Uploader:
    """The thread that sends to one tracking store while any run there is open.

    Args:
        tracking_uri: The store.
        backlog: What waits in this process for this and other stores.
        store_opener: Opens a run in it.
        now: The monotonic clock.
        jitter: Gives the part of a pause after a failure that is kept.

    Attributes:
        busy: Held while MLflow's client works; a fork waits for it.
    """

    def __init__(
        self,
        tracking_uri: str,
        backlog: Backlog,
        store_opener: Callable[..., RunStore] | None = None,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = _some_of_a_pause,
    ) -> None:
        self.busy = CallLock()
        self.backlog = backlog
        self._tracking_uri = tracking_uri
        self._open_store = partial(store_opener or open_store, limits=Limits())
        self._now = now
        self._condition = threading.Condition()
        self._schedule = Schedule(jitter)
        self._thread: threading.Thread | None = None
        self._leftovers: Iterator[Stream | None] = iter(())
        self._last_timeout_s = -math.inf
        hold_during_fork(self, ForkOrder.UPLOADER)

    def open(self, stream: Stream, on_end: Callable[[], None] | None = None) -> Task:
        """Begin to send a stream; returns at once. See `Channel`."""
        with self._condition:
            if self._thread is None or not self._thread.is_alive():
                self._thread = start_thread("uploader", self._run)
            task = self._schedule.add(stream, self._now(), on_end)
            self.backlog.add(stream)
            self._condition.notify_all()
        return task

    def wake(self) -> None:
        """Something waits where nothing did."""
        with self._condition:
            self._condition.notify_all()

    def end(self, task: Task) -> None:
        """Send what waits of a run now; returns at once."""
        with self._condition:
            self._schedule.end(task)
            self._condition.notify_all()

    def wait_until_sent(self, task: Task, timeout_s: float) -> None:
        """Wait until a run is sent, or there is no hope of that in time.

        A store for which another run has just waited in vain is not waited for: nested runs end one
        after another.
        """
        if self._now() - self._last_timeout_s < LONGEST_PAUSE_S:
            timeout_s = min(timeout_s, 0.0)
        deadline_s = self._now() + timeout_s

        def is_over() -> bool:
            return task.is_settled or self._schedule.is_hopeless(task, deadline_s)

        task.is_awaited = True
        try:
            with self._condition:
                if not self._condition.wait_for(is_over, timeout_s) and timeout_s > 0:
                    self._last_timeout_s = self._now()
        finally:  # also when Ctrl-C ends the wait
            task.is_awaited = False

    def send_leftovers(self, folder: Path) -> None:
        """Once the store has taken something, send what earlier processes left for it, too."""
        self._leftovers = leftovers.adopt_each(folder, self._tracking_uri)

    def _run(self) -> None:
        while (action := self._wait_for_action()) is not None:
            with self.busy:
                if action.task is None:
                    self._find_leftover()
                else:
                    self._do_safely(action, action.task)

    def _wait_for_action(self) -> Action | None:
        """What to do now; None when the last run is closed and sent."""
        with self._condition:
            while True:
                for task in self._schedule.remove_done():
                    self.backlog.remove(task.stream)
                self._condition.notify_all()
                if not self._condition.wait_for(self._schedule.has_work, LINGER_S):
                    self._thread = None
                    return None
                now_s = self._now()
                action = self._schedule.next_action(now_s)
                if action.what is not Do.WAIT:
                    return action
                self._condition.wait(None if action.until_s is None else action.until_s - now_s)

    def _do_safely(self, action: Action, task: Task) -> None:
        try:
            self._do(action, task)
        except Exception as error:  # noqa: BLE001 - not even a failure to tell of a failure
            logger.debug("delivery failed: %s", shown_text(repr(error), self._tracking_uri))
            with self._condition:
                task.fail(error, self._now())

    def _do(self, action: Action, task: Task) -> None:
        outcome: int | Exception = 0
        try:
            if task.store is None:
                task.store = self._open_store_of(task.stream)
            if action.what is Do.SEND:
                outcome = task.stream.send(task.store)
            elif action.what is Do.SAY_LAST_WORD:
                task.stream.say_last_word(task.store)
            else:
                self._ask_status(task, task.store)
        except Exception as error:  # noqa: BLE001 - one failed request must not end delivery
            outcome = error
        with self._condition:
            sequel = self._schedule.after(task, outcome, self._now())
            self._condition.notify_all()  # before another one is taken up, which may take its time
        if sequel is Sequel.SENT:
            self._last_timeout_s = -math.inf
            if self._schedule.reports_recovery():
                logger.info("metrics are being sent again")
        elif isinstance(outcome, Exception):
            self._follow_failure(sequel, task, outcome)

    def _ask_status(self, task: Task, store: RunStore) -> None:
        if store.read().has_ended and not task.stream.resume.had_ended:
            on_end, task.on_end = task.on_end, None
            if on_end is not None:
                on_end()

    def _follow_failure(self, sequel: Sequel, task: Task, error: Exception) -> None:
        stream = task.stream
        if sequel is Sequel.ABANDON:
            logger.warning(
                "the store takes no metrics of %s any more, %d samples are lost: %s",
                stream.address,
                stream.forget(),
                error,
            )
        elif sequel is Sequel.RELEASE:
            logger.debug("%s: %s", stream.address, shown_text(repr(error)))
            stream.release()
            self.backlog.remove(stream)
        elif sequel is Sequel.BACK_OFF:
            is_kept = self.backlog.persist(stream, SAVE_TIMEOUT_S)
            if isinstance(error, RunNotFound):
                warn_once(
                    f"{shown_address(self._tracking_uri)} does not find {stream.address} now; its "
                    f"metrics are kept in {stream.spool_path or 'memory'}, and sent when it does: "
                    f"{error}",
                    subject=f"not found {stream.address}",
                )
            elif self._schedule.reports_outage(task, error):
                logger.warning(
                    "%s takes no metrics now; they are kept %s, and sent when it does: %s",
                    shown_address(self._tracking_uri),
                    "on disk" if is_kept else "in memory",
                    shown_text(error, self._tracking_uri) or type(error).__name__,
                )

    def _find_leftover(self) -> None:
        """Look for some milliseconds: the runs of this process wait no longer for it."""
        stream, is_over = None, False
        try:
            stream = next(self._leftovers)
        except StopIteration:
            is_over = True
        except Exception as error:  # noqa: BLE001 - whatever is in that folder, our own runs go on
            logger.debug("no leftovers are sent: %s", shown_text(repr(error)))
            is_over = True
        with self._condition:
            self._schedule.finds_leftovers = stream is None and not is_over
            if stream is not None:
                self._schedule.add(stream, self._now(), is_leftover=True)
                self.backlog.add(stream)

    def _open_store_of(self, stream: Stream) -> RunStore:
        if stream.own_prefix is None:
            return self._open_store(stream.address)
        return KeptApartStore(stream.address, stream.own_prefix, self._open_store)
