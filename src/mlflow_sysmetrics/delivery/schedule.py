"""What the sender to one store does next, and when: pure, without a thread, a clock or a store."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.delivery.run_store import (
    AccessDenied,
    Busy,
    NotYet,
    RunGone,
    RunNotFound,
    StoreAnswer,
)
from mlflow_sysmetrics.host.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.delivery.stream import Stream

FLUSH_INTERVAL_S = 10.0
"""Samples reach the store within this time, if the store is well."""

STATUS_INTERVAL_S = 60.0
"""How often a run that others may end is asked whether they have."""

LONGEST_PAUSE_S = 30.0
"""How long a store that fails is left alone at most, where it does not ask for more."""

_SLACK_S = 0.5  # so that a tick a little before the flush is due goes with it
_LEFTOVER_ATTEMPTS = 5  # then the store is not well enough for what can wait


class Task:
    """A run that is sent to the store.

    Args:
        stream: Its records.
        now_s: When it opens.
        backoff: Keeps it from being sent while that fails.
        on_end: Called when the run was ended by someone else; None where nobody else ends it.
        is_leftover: Whether an earlier process left it: sent when there is time.

    Attributes:
        is_gone: Whether the store will take nothing more.
        closing: Whether no record will follow.
        is_awaited: Whether somebody waits until it is sent.
        order: Lower for what was recorded earlier.
        store: Its store, once it is open.
    """

    def __init__(
        self,
        stream: Stream,
        now_s: float,
        backoff: Backoff,
        on_end: Callable[[], None] | None = None,
        *,
        is_leftover: bool = False,
    ) -> None:
        self.stream = stream
        self.backoff = backoff
        self.on_end = on_end
        self.is_leftover = self.closing = is_leftover
        self.is_gone = self.is_awaited = False
        self.store: RunStore | None = None
        self.order = (False, 0)
        self._flush_s = now_s + FLUSH_INTERVAL_S - _SLACK_S
        self._flush_to: int | None = None  # records before this are being sent
        self._status_s = now_s + STATUS_INTERVAL_S

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to send."""
        return self.is_gone or (self._is_sent and not (self.closing and self.stream.has_last_word))

    @property
    def is_last_word_due(self) -> bool:
        """Whether all is sent but what is said then."""
        return self.closing and self._is_sent and self.stream.has_last_word

    @property
    def _is_sent(self) -> bool:
        return self.stream.is_known and not self.stream.unsent

    @property
    def rank(self) -> tuple[bool, bool]:
        """Lower goes first: what somebody waits for, then other runs, then leftovers."""
        return (self.is_leftover, not self.is_awaited)

    def due_s(self) -> float | None:
        """When there is something to do for it; None while there is nothing."""
        if self.is_gone or (self.is_settled and self.closing):
            return None
        if self.closing or not self.stream.is_known:
            return self.backoff.not_before_s
        due_s = [self._status_s] if self.on_end is not None else []
        if not self.is_settled:
            due_s.append(self._flush_s)
        return max(min(due_s), self.backoff.not_before_s) if due_s else None

    def is_status_due(self, now_s: float) -> bool:
        """Whether the run's status is to be asked for now; then the next time is a while away."""
        is_due = self.on_end is not None and not self.closing and self._status_s <= now_s
        if is_due:
            self._status_s = now_s + STATUS_INTERVAL_S
        return is_due

    def begin_flush(self) -> None:
        """Note what waits now, if no flush is under way: what comes later is for the next one."""
        if self._flush_to is None:
            self._flush_to = self.stream.queue.added

    def end_flush(self, now_s: float) -> None:
        """Let the next flush be due in its time, if all of this one is sent."""
        if self._flush_to is not None and self.stream.queue.sent >= self._flush_to:
            self._flush_to = None
            # On a grid, so that there are as many requests as intervals.
            late_s = now_s - self._flush_s
            self._flush_s += (late_s // FLUSH_INTERVAL_S + 1) * FLUSH_INTERVAL_S

    def fail(self, error: Exception, now_s: float) -> None:
        """Let it wait; with the next attempt goes all that waits then."""
        self._flush_to = None
        pause_s = error.pause_s if isinstance(error, StoreAnswer) else None
        self.backoff.fail(error, now_s, pause_s)


class Do(Enum):
    """What the sender's thread can do."""

    SEND = auto()
    SAY_LAST_WORD = auto()
    ASK_STATUS = auto()
    FIND_LEFTOVER = auto()
    WAIT = auto()


class Action(NamedTuple):
    """What it does next: for a run, or, if it waits, until when; None for until something comes."""

    what: Do
    task: Task | None = None
    until_s: float | None = None


class Sequel(Enum):
    """What follows from an attempt, beside the next one."""

    SENT = auto()
    NOTHING = auto()
    BACK_OFF = auto()  # the run's records are kept for another try
    ABANDON = auto()  # the run is gone
    RELEASE = auto()  # a leftover is left to a later process


class Schedule:
    """The runs that are sent to one store.

    Args:
        jitter: Gives the part of a pause that is kept.

    Attributes:
        tasks: The runs; who was served last is last.
        finds_leftovers: Whether to look for what earlier processes left, when nothing else is due.
        has_leftovers: Whether there may be more of them.
        not_before_s: The store has asked to be left alone until then.
        outage_reported: Whether the user knows that the store takes nothing.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.tasks: list[Task] = []
        self.finds_leftovers = False
        self.has_leftovers = True
        self.not_before_s = 0.0
        self.outage_reported = False
        self._jitter = jitter
        self._added = 0

    def add(
        self,
        stream: Stream,
        now_s: float,
        on_end: Callable[[], None] | None = None,
        *,
        is_leftover: bool = False,
    ) -> Task:
        """A run from now on."""
        backoff = Backoff(LONGEST_PAUSE_S, self._jitter)
        task = Task(stream, now_s, backoff, on_end, is_leftover=is_leftover)
        self._added += 1
        task.order = (not is_leftover, self._added)
        self.tasks.append(task)
        return task

    def end(self, task: Task) -> None:
        """No record of a run will follow: what waits is sent at once."""
        task.closing = True
        task.backoff.not_before_s = 0.0

    def has_work(self) -> bool:
        """Whether there is something to do, now or later."""
        return bool(self.tasks) or self.finds_leftovers

    def remove_done(self) -> list[Task]:
        """Take out the runs that are closed and sent."""
        done = [each for each in self.tasks if each.closing and each.is_settled]
        self.tasks = [each for each in self.tasks if each not in done]
        return done

    def is_hopeless(self, task: Task, deadline_s: float) -> bool:
        """Whether there will be no other attempt for a run until some time."""
        return max(task.backoff.not_before_s, self.not_before_s) > deadline_s

    def next_action(self, now_s: float) -> Action:
        """What to do now."""
        due = [
            (max(due_s, self.not_before_s), task)
            for task in self.tasks
            if (due_s := task.due_s()) is not None and not self._waits_for_another(task)
        ]
        ready = [task for due_s, task in due if due_s <= now_s]
        if self.finds_leftovers and all(each.is_leftover for each in ready):
            return Action(Do.FIND_LEFTOVER)
        if not ready:
            return Action(Do.WAIT, until_s=min((due_s for due_s, _ in due), default=None))
        task = min(ready, key=lambda each: each.rank)
        self.tasks.remove(task)  # last from then on, so that a long one holds no other up
        self.tasks.append(task)
        if task.is_status_due(now_s):
            return Action(Do.ASK_STATUS, task)
        if task.is_last_word_due:
            return Action(Do.SAY_LAST_WORD, task)
        task.begin_flush()
        return Action(Do.SEND, task)

    def _waits_for_another(self, task: Task) -> bool:
        """Whether the steps of a run go on from those of what is sent before of the same one."""
        return not task.stream.is_known and any(
            each.closing
            and each.stream.address == task.stream.address
            and each.order < task.order
            and not (each.is_settled or (each.is_leftover and each.stream.is_known))
            for each in self.tasks
        )

    def after(self, task: Task, outcome: int | Exception, now_s: float) -> Sequel:
        """Take note of how an action for a run has ended.

        Args:
            task: The run.
            outcome: How many samples the store took; or what it raised.
            now_s: The time.
        """
        if isinstance(outcome, Exception):
            return self._after_failure(task, outcome, now_s)
        task.end_flush(now_s)
        if outcome or task.is_leftover:
            self._next_leftover()
        if not (outcome or task.is_settled):
            return Sequel.NOTHING  # a store that can be read need not take anything
        task.backoff.succeed()
        return Sequel.SENT

    def _after_failure(self, task: Task, error: Exception, now_s: float) -> Sequel:
        if isinstance(error, RunGone):
            if task.is_leftover:
                return self._release(task)
            task.is_gone = True
            task.backoff.succeed()  # it is in no outage any more
            return Sequel.ABANDON
        task.fail(error, now_s)
        if task.is_leftover:
            of_one_run = isinstance(error, StoreAnswer) and error.of_one_run
            if of_one_run or task.backoff.failures == _LEFTOVER_ATTEMPTS:
                self.has_leftovers &= of_one_run
                return self._release(task)
        if isinstance(error, Busy):
            self.not_before_s = now_s + error.retry_after_s
        elif isinstance(error, RunNotFound | NotYet):
            task.backoff.succeed()  # the store is well
        is_said = not (task.is_leftover or isinstance(error, NotYet))
        return Sequel.BACK_OFF if is_said else Sequel.NOTHING

    def _release(self, task: Task) -> Sequel:
        self.tasks.remove(task)
        self._next_leftover()
        return Sequel.RELEASE

    def _next_leftover(self) -> None:
        """Look for the next one, when the one before is sent."""
        is_one_sent = any(each.is_leftover and not each.is_settled for each in self.tasks)
        self.finds_leftovers = self.has_leftovers and not is_one_sent

    def reports_outage(self, task: Task, error: Exception) -> bool:
        """Whether a failure is worth a warning: once an outage, however many runs it concerns."""
        is_worth_it = task.backoff.failures > 1 or isinstance(error, AccessDenied)
        is_first = is_worth_it and not self.outage_reported
        self.outage_reported |= is_worth_it
        return is_first

    def reports_recovery(self) -> bool:
        """Whether the outage that was reported is over, and this was not said yet."""
        is_over = self.outage_reported and not any(each.backoff.failures for each in self.tasks)
        self.outage_reported &= not is_over
        return is_over
