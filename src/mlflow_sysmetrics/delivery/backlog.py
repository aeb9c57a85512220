"""What all runs of a process have waiting: on disk in time, and within a bound on its memory."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.spool_writer import SpoolWriter

if TYPE_CHECKING:
    from mlflow_sysmetrics.delivery.stream import Stream
    from mlflow_sysmetrics.sampling.sink import Record

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

    def add(self, stream: Stream) -> None:
        """Count a stream from now on."""
        with self._lock:
            self._streams.add(stream)

    def remove(self, stream: Stream) -> None:
        """Count it no longer."""
        with self._lock:
            self._streams.discard(stream)

    def put(self, stream: Stream, sample: Record) -> None:
        """Let a sample wait, and see to it that not too many do so in memory; never blocks."""
        stream.add(sample)
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
        return not stream.unpersisted

    def _evict(self) -> None:
        """Where too much waits, let the streams that take most room make some."""
        with self._lock:
            streams = sorted(self._streams, key=lambda each: each.memory_bytes, reverse=True)
        waiting = sum(each.memory_bytes for each in streams)
        for stream in streams:
            if waiting <= self._max_bytes * _MOVED_FROM:
                break
            self._writer.ask(stream.move_to_disk)
            waiting -= stream.memory_bytes
        for stream in streams:  # where the disk refuses, or hangs
            if sum(each.memory_bytes for each in streams) <= self._max_bytes:
                break
            stream.thin()
