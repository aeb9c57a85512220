"""The way of one run's records to its store: its queue, its file on disk, and what is sent."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.batch_sender import BatchSender
from mlflow_sysmetrics.delivery.earlier import earlier_files
from mlflow_sysmetrics.delivery.queue import Queue, samples_of
from mlflow_sysmetrics.delivery.resume import Resume
from mlflow_sysmetrics.delivery.run_store import NotYet
from mlflow_sysmetrics.delivery.spool import Spool
from mlflow_sysmetrics.delivery.stored import Duplicates, count_missing
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
_WAITS = 15  # half a minute: a lock on a network may outlast the host that had it
_DISK_PATIENCE_S = 1.0  # how long sending waits for one that is being written to


class Stream:
    """One thread adds to the queue, one sends, one writes to disk; none waits for another.

    Args:
        address: The run.
        folder: Where its file is made when one is needed; None for none.
        tags: For a resumed run: gives the tags to set where it has none. None for a new run.
        own_prefix: What keys begin with if another host turns out to have the usual ones; None
            where no other host can.
        last_word: Once all is sent, and no record will follow: makes a record of the tags that the
            run then has, which is sent, too. None for nothing.

    Attributes:
        queue: What waits.
        resume: Where its steps begin.
    """

    def __init__(
        self,
        address: RunAddress,
        folder: Path | None = None,
        tags: Callable[[], Mapping[str, str]] | None = None,
        own_prefix: str | None = None,
        last_word: Callable[[Mapping[str, str]], Record | None] | None = None,
    ) -> None:
        self.address = address
        self.own_prefix = own_prefix
        self.queue = Queue()
        self.resume = Resume(tags)
        self._last_word = last_word
        self._folder = folder
        self._spool: Spool | None = None
        self._disk_lock = threading.RLock()  # held while the disk works
        self._disk_refused_ms = -_DISK_PAUSE_MS
        self._sender = BatchSender()
        self._reported_dropped = 0
        self._duplicates = Duplicates()
        self._waits_left = _WAITS

    @classmethod
    def of_spool(cls, spool: Spool, address: RunAddress) -> Stream:
        """What an earlier process left.

        Args:
            spool: The file.
            address: Its run, with a tracking URI that can be used.
        """
        stream = cls(address)
        stream.queue = Queue(spool.left or 0, spool.sent_to, spool.dropped)
        stream.resume = Resume.of_leftover(spool.first_step, spool.tags)
        stream._spool = spool
        # It is not noted what was sent last.
        stream._duplicates = Duplicates(tried_to=stream.queue.added)
        return stream

    @property
    def unsent(self) -> int:
        """How many samples wait."""
        return self.queue.waiting

    @property
    def has_last_word(self) -> bool:
        """Whether something is to be asked and sent when all else is."""
        return self._last_word is not None

    @property
    def is_known(self) -> bool:
        """Whether the first step is known; for a resumed run the store is asked."""
        return self.resume.first_step is not None

    @property
    def spool_path(self) -> Path | None:
        """The file that samples are in; None while they are in none."""
        spool = self._spool
        return spool.path if spool is not None else None

    @property
    def is_overdue(self) -> bool:
        """Whether samples have waited too long in memory alone, to the nearest tick."""
        unpersisted = self.queue.in_memory_only()
        if not unpersisted:
            return False
        newest_ms = unpersisted[-1].timestamp_ms
        tick_ms = newest_ms - unpersisted[-2:][0].timestamp_ms
        early_ms = min(_JITTER_MS, tick_ms / 2)
        return newest_ms - unpersisted[0].timestamp_ms + early_ms >= _UNPERSISTED_MS

    def drop_oldest(self) -> bool:
        """Make room in memory, where the disk does not; False where nothing can be dropped."""
        is_dropped = self.queue.drop_oldest()
        if is_dropped:
            warn_once(
                f"samples of {self.address} are lost: there is no more room for them in memory, "
                f"nor on disk; the tag {DROPPED_TAG} will say how many",
                subject=f"dropped {self.address}",
            )
        return is_dropped

    # Writing; a disk may hang, so in the thread that does so for all

    def persist(self, *, is_last: bool = False) -> None:
        """Write to disk what is in memory alone.

        Args:
            is_last: Ask the disk even if it has just refused.
        """
        with self._disk_lock:
            waiting = self.queue.to_persist()
            now_ms = waiting[-1].timestamp_ms if waiting else 0
            try:
                if waiting and (is_last or now_ms - self._disk_refused_ms >= _DISK_PAUSE_MS):
                    self._write(waiting)
                    self.queue.persisted_to(waiting[-1].step + 1)
            except OSError as error:
                self._disk_refused_ms = now_ms
                warn_once(
                    f"metrics that wait to be sent cannot be kept on disk and are lost if this "
                    f"process ends before they are sent; MLFLOW_SYSMETRICS_SPOOL_DIR can name "
                    f"another folder: {error}",
                    subject="spool",
                )
            finally:
                self.queue.not_persisted()
            if not self.unsent:  # all was sent meanwhile
                self._note_sent()

    def move_to_disk(self) -> None:
        """Make room in memory: what the disk has is kept there alone."""
        with self._disk_lock:
            self.persist()
            self.queue.spill()

    def forget(self) -> int:
        """Drop all that waits; how many samples that was."""
        lost = self.queue.drop_all()
        self._note_sent()
        return lost

    def release(self) -> None:
        """Leave the file to a later process."""
        with self._disk_lock:
            if self._spool is not None:
                self._spool.release()

    def _write(self, records: Sequence[Record]) -> None:
        if self._spool is None or self._spool.is_deleted:
            self._spool = self._new_spool()
        self._spool.append(records)
        self._mark(self._spool)

    def _mark(self, spool: Spool, **found: int) -> None:
        """Note how far it is sent, and what is lost, for a later process."""
        if self.queue.dropped != spool.dropped:
            found["dropped"] = self.queue.dropped
        if spool.left is not None:
            found["left"] = self.unsent
        if found:
            spool.mark(**found)

    def _new_spool(self) -> Spool:
        """Make a file, with what was in the one before if someone has deleted that."""
        if self._folder is None:
            raise OSError("there is no folder for it; MLFLOW_SYSMETRICS_SPOOL_DIR names one")
        resume = self.resume
        spool = Spool.create(self._folder, self.address, resume.first_step, resume.tags)
        if self._spool is not None:
            spool.take_over(self._spool)
        return spool

    # Sending; by one thread

    def send(self, store: RunStore) -> int:
        """Send one batch, or ask once what the store has of it; how many samples were sent.

        Raises:
            Exception: What `RunStore` raises; nothing is taken as sent then.
        """
        first_step = self._first_step(store)
        batch = self._next_batch(store.limits.batch_points)
        try:
            if batch:
                points = [point for each in batch for point in each.points(first_step)]
                missing = self._duplicates.missing(batch, points, store)
                if missing is None:
                    return 0
                self._log(batch, missing, store)
                self.queue.ack(batch)
            else:  # what was on disk is gone
                self._log(batch, [], store)
        finally:
            self.queue.release()
        self._note_sent()
        return samples_of(batch)

    def say_last_word(self, store: RunStore) -> None:
        """Ask what the run has by now, and send what is then to be said.

        Raises:
            Exception: What `RunStore` raises.
        """
        if self._last_word is not None:
            record = self._last_word(store.read().tags)
            if record is not None:
                self._log([record], [], store)
            self._last_word = None

    def count_missing(self, store: RunStore) -> int:
        """How many of the samples on disk the store lacks; sends nothing.

        Raises:
            Exception: What `RunStore` raises.
        """
        with self._disk_lock:
            return 0 if self._spool is None else count_missing(self._spool.unsent(), store)

    def _first_step(self, store: RunStore) -> int:
        first_step = self.resume.first_step
        if first_step is None:
            first_step = self._free_step(store)
            with self._idle_disk():
                self.resume.first_step = first_step
                if self._spool is not None:
                    self._mark(self._spool, first_step=first_step)
        return first_step

    def _free_step(self, store: RunStore) -> int:
        """Ask a store, after a look at what it does not have yet."""
        own = self.spool_path
        folder = own.parent if self._folder is None and own is not None else self._folder
        with earlier_files(self.address, folder, own) as earlier:
            next_step = self.resume.ask(store)
            if earlier.held and self._waits_left:
                self._waits_left -= 1
                raise NotYet("another process is sending samples whose steps are not known yet")
            return earlier.number(next_step)

    def _next_batch(self, max_entries: int) -> list[Record]:
        queue = self.queue
        if queue.on_disk and self._spool is not None:
            with self._disk_lock:
                batch = self._spool.read(queue.sent, queue.head, max_entries)
            if batch:
                return batch
            queue.drop_on_disk()  # damaged, or tampered with
        return queue.peek(max_entries)

    def _log(self, batch: Sequence[Record], points: Sequence[Point], store: RunStore) -> None:
        tags = {key: value for each in batch for key, value in each.tags.items()}
        # Harmless if done twice, so not looked for.
        points = [*points, *(point for each in batch for point in each.summary_points())]
        dropped = self.queue.dropped
        if dropped != self._reported_dropped:
            tags[DROPPED_TAG] = str(dropped)
        with self._duplicates.trying(self._sender):
            self._sender.log(points, tags, store)
        self._reported_dropped = dropped

    def _note_sent(self) -> None:
        """Tell a later process what is sent; delete the file when that is all."""
        with self._idle_disk() as is_idle:
            if self._spool is None or not is_idle:
                return
            if self.unsent:
                self._mark(self._spool, sent_to=self.queue.sent)
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
