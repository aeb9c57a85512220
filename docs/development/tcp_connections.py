"""How many TCP connections the host has open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

SOCKSTAT = "proc/net/sockstat"


class TcpConnectionsCollector:
    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> dict[str, float]:
        return {"tcp/num_connections": parse_sockstat(self._host.read_text(SOCKSTAT))}

    def close(self) -> None:
        """Nothing is held."""


def open_tcp_connections(host: Host) -> TcpConnectionsCollector:
    collector = TcpConnectionsCollector(host)
    collector.collect()  # raises Unavailable outside Linux
    return collector


def parse_sockstat(text: str) -> int:
    """`TCP: inuse 27 orphan 0 tw 3 alloc 42 mem 9` is 27."""
    for line in text.splitlines():
        if line.startswith("TCP: inuse "):
            return int(line.split()[2])
    raise Unavailable(f"{SOCKSTAT} has no line for TCP")
