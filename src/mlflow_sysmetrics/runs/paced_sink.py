"""Fewer requests of a host that is one of many: what it logs is handed on in larger parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.sampling.sink import Sink

if TYPE_CHECKING:
    from mlflow_sysmetrics.delivery.channel import Channel
    from mlflow_sysmetrics.sampling.sink import Record

PACE_MS = 19_500
"""Every second tick at the default interval, which may come a little early.
With what it asks beside that, a host makes less than one request in 10 seconds."""


class PacedSink(Sink):
    """Holds records back for a while; see `Sink` for its methods.

    Args:
        channel: Where they go.
        pace_ms: Least time between two parts.
    """

    def __init__(self, channel: Channel, pace_ms: int) -> None:
        self._channel = channel
        self._pace_ms = pace_ms
        self._held: list[Record] = []
        self._handed_on_ms = 0

    def put(self, record: Record) -> None:
        """Take a record, and hand on all that are held once it is time; tags wait for values."""
        self._held.append(record)
        if record.values and record.timestamp_ms - self._handed_on_ms >= self._pace_ms:
            self._handed_on_ms = record.timestamp_ms
            self._hand_on()

    def end(self) -> None:
        """Hand on what is held."""
        self._hand_on()
        self._channel.end()

    def close(self, timeout_s: float) -> None:
        """Hand on what is held, and wait until it is sent."""
        self._hand_on()
        self._channel.close(timeout_s)

    def _hand_on(self) -> None:
        held, self._held = self._held, []
        if held:
            self._channel.put(*held)  # one after another might be as many requests
