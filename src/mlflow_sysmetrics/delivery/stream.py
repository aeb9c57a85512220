"""The samples of one run on their way to its store: from memory, from disk, or from both."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.batch_sender import BatchSender
from mlflow_sysmetrics.delivery.outbox import Outbox, samples_of
from mlflow_sysmetrics.delivery.run_store import Busy
from mlflow_sysmetrics.delivery.spool import Spool
from mlflow_sysmetrics.delivery.stored import StoredPoints, count_missing
from mlflow_sysmetrics.log import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mlflow_sysmetrics.delivery.run_address import RunAddress
    from mlflow_sysmetrics.delivery.run_store import RunStore
    from mlflow_sysmetrics.sampling.sink import Point, Record

DROPPED_TAG = "sysmetrics.dropped_samples"

_UNPERSISTED_MS = 10_000
"""What a crash may cost: samples older than this are in the store, or on disk."""

_JITTER_MS = 500  # by which a tick may come early, where ticks are not nearer to each other

_DISK_PAUSE_MS = 60_000  # how long a disk that refused is left alone
_DISK_PATIENCE_S = 1.0  # how long sending waits for one that is being written to


class Stream:
    """The samples of one run, in order: those on disk alone, then those in memory.

    What is in memory may be on disk, too. Steps, which rise from sample to sample, mark how far
    it is sent and spooled. One thread adds, another one sends; neither waits for the other.

    Args:
        address: The run.
        folder: Where its spool is made when one is needed; None for no spool.
        tags: For a resumed run: gives the tags to set where it has none. None for a new run.

    Attributes:
        address: The run.
        own_prefix: As given.
        added_to: All samples that were added are before this step.
        sent_to: All samples that were sent are before this step.
        dropped: Samples that were lost for want of memory and disk.
        had_ended: Whether the run, a resumed one, had ended before.
    """

    def __init__(
        self,
        address: RunAddress,
        folder: Path | None = None,
        tags: Callable[[], Mapping[str, str]] | None = None,
        own_prefix: str | None = None,
    ) -> None:
        self.address = address
        self.own_prefix = own_prefix
        self.added_to = 0
        self.sent_to = 0
        self.dropped = 0
        self.had_ended = False
        self._folder = folder
        self._tags = tags
        self._known_tags: Mapping[str, str] = {}
        self._first_step = None if tags is not None else 0
        self._outbox = Outbox()
        self._spool: Spool | None = None
        # Reentrant, for a signal handler that ends the run while it is being ended.
        self._lock = threading.RLock()  # held for a moment only
        self._disk_lock = threading.RLock()  # held while the disk works; taken before the other
        self._spooled_to = 0
        self._writing_to = 0  # while a write is under way
        self._on_disk_alone = 0  # how many; their steps are before `_disk_alone_to`
        self._disk_alone_to = 0
        self._disk_refused_ms = -_DISK_PAUSE_MS
        self._sender = BatchSender()
        self._reported_dropped = 0
        self._tried_to = 0  # the store may have samples before this step
        self._stored: StoredPoints | None = None

    @classmethod
    def of_spool(cls, spool: Spool, address: RunAddress) -> Stream:
        """What an earlier process left.

        Args:
            spool: The file.
            address: Its run, with a tracking URI that can be used.
        """
        stream = cls(address)
        stream._spool = spool
        stream._first_step = spool.first_step
        stream._known_tags = spool.tags
        stream.sent_to = spool.sent_to
        stream.dropped = spool.dropped
        stream._on_disk_alone = spool.left or 0
        stream._disk_alone_to = sys.maxsize
        stream._tried_to = sys.maxsize  # it is not noted what was sent last
        return stream

    @property
    def unsent(self) -> int:
        """How many samples of the host wait."""
        with self._lock:
            return self._on_disk_alone + self._outbox.samples

    @property
    def unpersisted(self) -> int:
        """How many of them are not on disk."""
        with self._lock:
            return samples_of(self._outbox.since(self._spooled_to))

    @property
    def is_known(self) -> bool:
        """Whether the first step is known; for a resumed run the store is asked."""
        return self._first_step is not None

    @property
    def memory_bytes(self) -> int:
        """Memory that waiting samples take."""
        return self._outbox.size_bytes

    @property
    def spool_path(self) -> Path | None:
        """The file that samples are in; None while they are in none."""
        spool = self._spool
        return spool.path if spool is not None else None

    # Waiting

    def add(self, sample: Record) -> None:
        """Let a sample wait."""
        with self._lock:
            self._outbox.add(sample)
            self.added_to = sample.step + 1

    @property
    def is_overdue(self) -> bool:
        """Whether samples have waited too long in memory alone, to the nearest tick."""
        with self._lock:
            unpersisted = self._outbox.since(self._spooled_to)
        if not unpersisted:
            return False
        newest_ms = unpersisted[-1].timestamp_ms
        tick_ms = newest_ms - unpersisted[-2:][0].timestamp_ms
        early_ms = min(_JITTER_MS, tick_ms / 2)
        return newest_ms - unpersisted[0].timestamp_ms + early_ms >= _UNPERSISTED_MS

    def thin(self) -> None:
        """Make room in memory by dropping samples evenly, but none that the disk gets or has."""
        with self._lock:
            dropped = self._outbox.thin(since=max(self._spooled_to, self._writing_to))
            self.dropped += dropped
        if dropped:
            warn_once(
                f"samples of {self.address} are lost: there is no more room for them in memory, "
                f"nor on disk; the tag {DROPPED_TAG} will say how many",
                subject=f"dropped {self.address}",
            )

    # Writing; a disk may hang, so in the thread that does so for all

    def persist(self, *, is_last: bool = False) -> None:
        """Write to disk what is in memory alone.

        Args:
            is_last: Ask the disk even if it has just refused.
        """
        with self._disk_lock:
            with self._lock:
                waiting = self._outbox.since(self._spooled_to)
                if not waiting:
                    return
                now_ms = waiting[-1].timestamp_ms
                if not is_last and now_ms - self._disk_refused_ms < _DISK_PAUSE_MS:
                    return
                self._writing_to = waiting[-1].step + 1
            try:
                self._write(waiting)
            except OSError as error:
                self._disk_refused_ms = now_ms
                warn_once(
                    f"metrics that wait to be sent cannot be kept on disk and are lost if this "
                    f"process ends before they are sent; MLFLOW_SYSMETRICS_SPOOL_DIR can name "
                    f"another folder: {error}",
                    subject="spool",
                )
            else:
                self._spooled_to = self._writing_to
            finally:
                self._writing_to = 0
            if not self.unsent:  # all was sent meanwhile
                self._note_sent()

    def move_to_disk(self) -> None:
        """Make room in memory: what the disk has is kept there alone."""
        with self._disk_lock:
            self.persist()
            with self._lock:
                moved = self._outbox.remove_before(self._spooled_to)
                if moved:
                    self._on_disk_alone += moved
                    self._disk_alone_to = self._spooled_to

    def forget(self) -> int:
        """Drop all that waits; how many samples that was."""
        with self._lock:
            lost = self._on_disk_alone + self._outbox.samples
            self._outbox = Outbox()
            self._on_disk_alone = 0
        self._note_sent()
        return lost

    def release(self) -> None:
        """Leave the file to a later process."""
        with self._disk_lock:
            if self._spool is not None:
                self._spool.release()

    def _write(self, samples: Sequence[Record]) -> None:
        if self._spool is None or self._spool.is_deleted:
            self._spool = self._new_spool()
        self._spool.append(samples)
        self._mark(self._spool)

    def _mark(self, spool: Spool, **found: int) -> None:
        """Note how far it is sent, and what is lost, for a later process."""
        if self.dropped != spool.dropped:
            found["dropped"] = self.dropped
        if spool.left is not None:
            found["left"] = self.unsent
        if found:
            spool.mark(**found)

    def _new_spool(self) -> Spool:
        """Make a file, with what was in the one before if someone has deleted that."""
        if self._folder is None:
            raise OSError("there is no folder for it; MLFLOW_SYSMETRICS_SPOOL_DIR names one")
        spool = Spool.create(self._folder, self.address, self._first_step, self._known_tags)
        if self._spool is not None:
            spool.take_over(self._spool)
        return spool

    # Sending; by one thread

    def send(self, store: RunStore) -> int:
        """Send one batch, or ask once what the store has of it; how many samples were sent.

        Raises:
            Exception: What `RunStore` raises; nothing is taken as sent then.
        """
        first_step = self._take_up(store)
        batch = self._next_batch(store.limits.batch_points)
        points = [point for sample in batch for point in sample.points(first_step)]
        missing = points
        if batch and batch[0].step < self._tried_to:
            self._stored = self._stored or StoredPoints(store)
            if not self._stored.look_up(points):
                return 0
            missing = self._stored.missing(points)
            if points and len(missing) == len(points):  # in order: nor the rest
                self._tried_to = 0
        if batch:
            self._tried_to = max(self._tried_to, batch[-1].step + 1)
        # Harmless if done twice, so not looked for.
        missing = [*missing, *(point for each in batch for point in each.summary_points())]
        self._log(missing, {k: v for each in batch for k, v in each.tags.items()}, store)
        self._settle(batch)
        return samples_of(batch)

    def count_missing(self, store: RunStore) -> int:
        """How many of the samples on disk the store lacks; sends nothing.

        Raises:
            Exception: What `RunStore` raises.
        """
        with self._disk_lock:
            return 0 if self._spool is None else count_missing(self._spool.unsent(), store)

    def _take_up(self, store: RunStore) -> int:
        """Step of the run to which ours are added; a resumed run is asked, and gets its tags."""
        if self._first_step is None:
            if self._tags is not None:
                self._known_tags = self._tags()
            state = store.read()
            if self._known_tags and not set(state.tags) & self._known_tags.keys():
                store.log([], self._known_tags)
            self.had_ended = state.has_ended
            with self._idle_disk():
                self._first_step = state.next_step
                if self._spool is not None:
                    self._mark(self._spool, first_step=self._first_step)
        return self._first_step

    def _next_batch(self, max_points: int) -> list[Record]:
        with self._lock:
            if self._spool is None or self.sent_to >= self._disk_alone_to:
                return self._outbox.peek(max_points)
        with self._disk_lock:
            batch = self._spool.read(self.sent_to, self._disk_alone_to, max_points)
            if not batch:
                with self._lock:  # damaged, or tampered with
                    self.dropped += self._on_disk_alone
                    self._on_disk_alone = 0
                    self.sent_to = self._disk_alone_to
                    batch = self._outbox.peek(max_points)
            return batch

    def _log(self, points: Sequence[Point], tags: dict[str, str], store: RunStore) -> None:
        dropped = self.dropped
        if dropped != self._reported_dropped:
            tags[DROPPED_TAG] = str(dropped)
        stored, self._stored = self._stored, None  # from now on the store may have more
        try:
            self._sender.log(points, tags, store)
        except Busy:
            if not self._sender.taken:
                self._stored = stored
            raise
        self._reported_dropped = dropped

    def _settle(self, batch: Sequence[Record]) -> None:
        """Remove a batch that the store has confirmed."""
        if not batch:
            return
        with self._lock:
            self.sent_to = batch[-1].step + 1
            from_disk = samples_of(each for each in batch if each.step < self._disk_alone_to)
            self._on_disk_alone -= from_disk
            from_memory = self._outbox.remove_before(self.sent_to)
            # Thinned while they were on their way: not lost after all.
            self.dropped -= samples_of(batch) - from_disk - from_memory
        self._note_sent()

    def _note_sent(self) -> None:
        """Tell a later process what is sent; delete the file when that is all."""
        with self._idle_disk() as is_idle:
            if self._spool is None or not is_idle:
                return
            if self.unsent:
                self._mark(self._spool, sent_to=self.sent_to)
            else:
                self._spool.delete()
                self._spool = None

    @contextmanager
    def _idle_disk(self) -> Iterator[bool]:
        """Keep others from using the file; where it hangs, go on: sent twice is stored once."""
        is_idle = self._disk_lock.acquire(timeout=_DISK_PATIENCE_S)
        try:
            yield is_idle
        finally:
            if is_idle:
                self._disk_lock.release()
