"""What all runs of a process have waiting: on disk in time, and within a bound on its memory."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.spool_writer import SpoolWriter

if TYPE_CHECKING:
    from mlflow_sysmetrics.delivery.stream import Stream

MAX_BYTES = 16 * 2**20
"""Memory of this process that waiting samples may take: some 4,000 samples, or hours."""

_MOVED_FROM = 3 / 4  # of that; the rest is for what comes while a disk is slow


class Backlog:
    """The streams of a process.

    Args:
        max_bytes: Memory that they may take together.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._streams: set[Stream] = set()
        self._writer = SpoolWriter()

    @property
    def size_bytes(self) -> int:
        """Memory that all of them take."""
        with self._lock:
            return sum(each.queue.size_bytes for each in self._streams)

    def add(self, stream: Stream) -> None:
        """Count a stream from now on."""
        with self._lock:
            self._streams.add(stream)

    def remove(self, stream: Stream) -> None:
        """Count it no longer."""
        with self._lock:
            self._streams.discard(stream)

    def make_room(self, stream: Stream) -> None:
        """After a record was added: have disk take what is due, and bound memory; never blocks."""
        if stream.is_overdue:
            self._writer.ask(stream.persist)
        self._evict()

    def persist(self, stream: Stream, timeout_s: float, *, is_last: bool = False) -> bool:
        """Write to disk what a stream has in memory alone, for no longer than `timeout_s`.

        Args:
            stream: The stream.
            timeout_s: How long a disk is waited for that hangs.
            is_last: Ask the disk even if it has just refused.

        Returns:
            Whether nothing is in memory alone any more.
        """
        self._writer.do(partial(stream.persist, is_last=is_last), timeout_s)
        return not stream.queue.unpersisted

    def _evict(self) -> None:
        """Where too much waits, let the streams that take most room make some."""
        with self._lock:
            streams = sorted(self._streams, key=lambda each: each.queue.size_bytes, reverse=True)
        waiting = self.size_bytes
        for stream in streams:
            if waiting <= self._max_bytes * _MOVED_FROM:
                break
            self._writer.ask(stream.move_to_disk)
            waiting -= stream.queue.size_bytes
        for stream in streams:  # where the disk refuses, or hangs
            while self.size_bytes > self._max_bytes and stream.drop_oldest():
                pass
