"""One thread for each tracking store: it sends what waits for it, and tries again what failed."""

from __future__ import annotations

import math
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery import leftovers
from mlflow_sysmetrics.delivery.kept_apart import KeptApartStore
from mlflow_sysmetrics.delivery.run_store import (
    AccessDenied,
    Busy,
    InvalidPoints,
    Limits,
    RunGone,
    RunNotFound,
)
from mlflow_sysmetrics.delivery.sending import Sending
from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.host.forks import CallLock, ForkOrder, hold_during_fork
from mlflow_sysmetrics.log import logger, warn_once
from mlflow_sysmetrics.log.addresses import shown_address, shown_text
from mlflow_sysmetrics.sampling.sink import SAVE_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflow_sysmetrics.delivery.backlog import Backlog
    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.delivery.stream import Stream
    from mlflow_sysmetrics.sampling.sink import Record

LINGER_S = 5.0
"""How long the thread stays after the last run, as the sampler's does."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_PAUSE_UNTIL_MENDED_S = 60.0  # what ends only when someone sees to it
_LEFTOVER_ATTEMPTS = 5  # then the store is not well enough for what can wait
_OF_ONE_RUN = (AccessDenied, RunNotFound, InvalidPoints)  # answers that say nothing of other runs


class Uploader:
    """The thread that sends to one tracking store while any run there is open.

    Args:
        tracking_uri: The store.
        backlog: What waits in this process for this and other stores.

    Attributes:
        busy: Held while MLflow's client works; a fork waits for it.
    """

    def __init__(self, tracking_uri: str, backlog: Backlog) -> None:
        self.busy = CallLock()
        self._tracking_uri = tracking_uri
        self._backlog = backlog
        self._limits = Limits()
        self._condition = threading.Condition()
        self._sendings: list[Sending] = []
        self._thread: threading.Thread | None = None
        self._leftovers: Iterator[Stream | None] = iter(())
        self._looks_for_leftovers = False  # the next step of that is due when nothing else is
        self._asked_s = 0.0  # the store has asked to be left alone until then
        self._outage_reported = False
        self._last_timeout_s = -math.inf
        hold_during_fork(self, ForkOrder.UPLOADER)

    def open(self, stream: Stream, on_end: Callable[[], None] | None = None) -> Sending:
        """Begin to send a stream; returns at once.

        Args:
            stream: What is sent.
            on_end: Called when someone else has ended the run, which then is asked about every
                minute; None for a run that nobody else ends.

        Raises:
            RuntimeError: No thread can be started (interpreter shutdown).
        """
        sending = Sending.of_open_run(stream, on_end, time.monotonic())
        with self._condition:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(
                    target=self._run, name="mlflow-sysmetrics-uploader", daemon=True
                )
                thread.start()
                self._thread = thread
            self._sendings.append(sending)
            self._backlog.add(stream)
            self._condition.notify_all()
        return sending

    def put(self, sending: Sending, sample: Record) -> None:
        """Let a sample wait for the next flush; never blocks."""
        if sending.gone_reason is not None:
            return
        was_idle = sending.is_settled
        self._backlog.put(sending.stream, sample)
        if was_idle:  # else the thread knows when it is due
            with self._condition:
                self._condition.notify_all()

    def end(self, sending: Sending) -> None:
        """No sample will follow: send what waits now; returns at once."""
        with self._condition:
            sending.closing = True
            sending.retry_s = 0.0
            self._condition.notify_all()

    def close(self, sending: Sending, timeout_s: float) -> int:
        """Send what waits; what is left then is written to disk.

        Args:
            sending: The stream.
            timeout_s: How long to wait for the store; for the disk, it is `SAVE_TIMEOUT_S` more.
                Under zero if it is over already. A store for which another stream has just waited
                in vain is not waited for: nested runs end one after another.

        Returns:
            Samples that are not sent yet; they are tried on while the process lives.
        """
        now_s = time.monotonic()
        if now_s - self._last_timeout_s < _LONGEST_PAUSE_S:
            timeout_s = min(timeout_s, 0.0)
        deadline_s = now_s + timeout_s

        def is_over() -> bool:
            return sending.is_settled or max(sending.retry_s, self._asked_s) > deadline_s

        sending.is_awaited = True
        self.end(sending)
        try:
            with self._condition:
                if not self._condition.wait_for(is_over, timeout_s) and timeout_s > 0:
                    self._last_timeout_s = time.monotonic()
        finally:  # also when Ctrl-C ends the wait
            sending.is_awaited = False
            if not sending.is_settled:
                disk_s = deadline_s + SAVE_TIMEOUT_S - time.monotonic()
                self._backlog.persist(sending.stream, disk_s, is_last=True)
        return 0 if sending.is_settled else sending.stream.unsent

    def send_leftovers(self, folder: Path) -> None:
        """Once the store has taken something, send what earlier processes left for it, too."""
        self._leftovers = leftovers.adopt_each(folder, self._tracking_uri)

    def _run(self) -> None:
        while due := self._wait_for_due():
            with self.busy:
                if isinstance(due, Sending):
                    self._process_safely(due)
                else:
                    due()

    def _process_safely(self, sending: Sending) -> None:
        try:
            self._process(sending)
        except Exception as error:  # noqa: BLE001 - not even a failure to tell of a failure
            logger.debug("delivery failed: %s", shown_text(repr(error), self._tracking_uri))
            with self._condition:
                sending.retry_s = time.monotonic() + _LONGEST_PAUSE_S

    def _wait_for_due(self) -> Sending | Callable[[], None] | None:
        """What to do now; None when the last stream is closed and sent.

        A stream to send for; or a step of looking for what was left, while no open run is due.
        """
        with self._condition:
            while True:
                for sending in [s for s in self._sendings if s.closing and s.is_settled]:
                    self._remove(sending)
                self._condition.notify_all()
                if not self._condition.wait_for(self._has_work, LINGER_S):
                    self._thread = None
                    return None
                due = [
                    (max(due_s, self._asked_s), sending)
                    for sending in self._sendings
                    if (due_s := sending.due_s()) is not None
                ]
                now_s = time.monotonic()
                ready = [sending for due_s, sending in due if due_s <= now_s]
                if self._looks_for_leftovers and all(each.is_leftover for each in ready):
                    return self._look_for_leftover
                if ready:
                    return self._next_in_turn(ready)
                next_s = min((due_s for due_s, _ in due), default=None)
                self._condition.wait(None if next_s is None else next_s - now_s)

    def _has_work(self) -> bool:
        return bool(self._sendings) or self._looks_for_leftovers

    def _next_in_turn(self, ready: list[Sending]) -> Sending:
        """One of the first rank; it is last from then on, so that a long one holds no other up."""
        sending = min(ready, key=lambda each: each.rank)
        self._sendings.remove(sending)
        self._sendings.append(sending)
        return sending

    def _remove(self, sending: Sending) -> None:
        self._sendings.remove(sending)
        self._backlog.remove(sending.stream)

    def _process(self, sending: Sending) -> None:
        try:
            sent = self._serve(sending)
        except RunGone as reason:
            self._abandon(sending, reason)
        except Exception as error:  # noqa: BLE001 - one failed request must not end delivery
            self._back_off(sending, error)
        else:
            if sent or sending.is_settled:  # one that can be read need not take anything
                sending.failures = 0
                self._last_timeout_s = -math.inf
                self._report_recovery()
            with self._condition:  # before another one is taken up, which may take its time
                self._condition.notify_all()
            if sent or sending.is_leftover:
                self._take_up_leftover()

    def _serve(self, sending: Sending) -> int:
        """Send one batch, or ask for the run's status; the next thing goes in its turn.

        Returns:
            How many samples were sent.
        """
        if sending.store is None:
            sending.store = self._open_store_of(sending.stream)
        if sending.is_status_due(time.monotonic()):
            self._ask_status(sending, sending.store)
            return 0
        sending.begin_flush()
        sent = sending.stream.send(sending.store)
        with self._condition:
            sending.end_flush(time.monotonic())
        return sent

    def _ask_status(self, sending: Sending, store: RunStore) -> None:
        sending.begin_status_interval(time.monotonic())
        if store.read().has_ended and not sending.stream.had_ended:
            on_end, sending.on_end = sending.on_end, None
            if on_end is not None:
                on_end()

    def _back_off(self, sending: Sending, error: Exception) -> None:
        sending.failures += 1
        sending.flush_to = None  # with the next attempt goes all that waits then
        is_of_one_run = isinstance(error, _OF_ONE_RUN)
        if sending.is_leftover and (is_of_one_run or sending.failures == _LEFTOVER_ATTEMPTS):
            if not is_of_one_run:
                self._leftovers = iter(())
            self._release(sending, error)
            return
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(sending.failures - 1, 10))
        pause_s *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        if isinstance(error, Busy):
            self._asked_s = time.monotonic() + error.retry_after_s
        elif isinstance(error, AccessDenied | RunNotFound):
            pause_s = _PAUSE_UNTIL_MENDED_S
        with self._condition:
            sending.retry_s = time.monotonic() + pause_s
            self._condition.notify_all()
        if not sending.is_leftover:
            self._report_failure(sending, error)

    def _report_failure(self, sending: Sending, error: Exception) -> None:
        is_kept = self._backlog.persist(sending.stream, SAVE_TIMEOUT_S)
        if isinstance(error, RunNotFound):
            sending.failures = 0  # the store is well
            self._warn_of_unknown_run(sending.stream, error)
        # A request that fails once is not worth a warning.
        elif sending.failures > 1 or isinstance(error, AccessDenied):
            self._warn_of_outage(error, "on disk" if is_kept else "in memory")

    def _warn_of_outage(self, error: Exception, where: str) -> None:
        """Say it once an outage, however many runs it concerns."""
        if not self._outage_reported:
            self._outage_reported = True
            logger.warning(
                "%s takes no metrics now; they are kept %s, and sent when it does: %s",
                shown_address(self._tracking_uri),
                where,
                shown_text(error, self._tracking_uri) or type(error).__name__,
            )

    def _warn_of_unknown_run(self, stream: Stream, reason: Exception) -> None:
        warn_once(
            f"{shown_address(self._tracking_uri)} does not find {stream.address} now; its metrics "
            f"are kept in {stream.spool_path or 'memory'}, and sent when it does: {reason}",
            subject=f"not found {stream.address}",
        )

    def _report_recovery(self) -> None:
        if self._outage_reported and not any(each.failures for each in self._sendings):
            self._outage_reported = False
            logger.info("metrics are being sent again")

    def _abandon(self, sending: Sending, reason: RunGone) -> None:
        if sending.is_leftover:
            self._release(sending, reason)
            return
        lost = sending.stream.forget()
        sending.failures = 0  # it is in no outage any more
        with self._condition:
            sending.gone_reason = str(reason)
        logger.warning(
            "the store takes no metrics of %s any more, %d samples are lost: %s",
            sending.stream.address,
            lost,
            reason,
        )

    def _release(self, sending: Sending, reason: Exception) -> None:
        """Leave it to a later process, and go on with the next one."""
        logger.debug("%s: %s", sending.stream.address, shown_text(repr(reason)))
        sending.stream.release()
        with self._condition:
            self._remove(sending)
        self._take_up_leftover()

    def _take_up_leftover(self) -> None:
        """Look for the next one, when the one before is sent."""
        is_one_sent = any(each.is_leftover and not each.is_settled for each in self._sendings)
        self._looks_for_leftovers = not is_one_sent

    def _look_for_leftover(self) -> None:
        """Look for some milliseconds: the runs of this process wait no longer for it."""
        try:
            stream = next(self._leftovers)
        except StopIteration:
            self._looks_for_leftovers = False
        except Exception as error:  # noqa: BLE001 - whatever is in that folder, our own runs go on
            logger.debug("no leftovers are sent: %s", shown_text(repr(error)))
            self._leftovers = iter(())
        else:
            if stream is not None:
                self._looks_for_leftovers = False
                with self._condition:
                    self._sendings.append(Sending(stream, closing=True, is_leftover=True))
                    self._backlog.add(stream)

    def _open_store_of(self, stream: Stream) -> RunStore:
        opener = partial(open_store, limits=self._limits)
        if stream.own_prefix is None:
            return opener(stream.address)
        return KeptApartStore(stream.address, stream.own_prefix, opener)
