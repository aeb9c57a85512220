"""What the host's network interfaces receive and send."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.collector import Collector
from mlflow_sysmetrics.collectors.counters import KeyedTotal
from mlflow_sysmetrics.host import Transient
from mlflow_sysmetrics.sources.net_dev import InterfaceBytes, read_net_dev

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host import Host


_LOOPBACK = re.compile(r"lo\d*|loopback.*", re.IGNORECASE)


class NetworkCollector(Collector):
    """Bytes over all interfaces, as MLflow counts, and over those that lead to other machines.

    Args:
        host: The machine.
        read: Gives the counters by interface.
    """

    def __init__(self, host: Host, read: Callable[[], dict[str, InterfaceBytes]]) -> None:
        self._host = host
        self._read = read
        self._external: dict[str, bool] = {}
        self._totals = {
            name: KeyedTotal()
            for name in (
                "network_receive_bytes",
                "network_transmit_bytes",
                "network_external_receive_bytes",
                "network_external_transmit_bytes",
            )
        }

    def collect(self) -> dict[str, float]:
        """Counters in bytes, from the collector's first look on."""
        interfaces = self._read()
        received = {name: each.received for name, each in interfaces.items()}
        sent = {name: each.sent for name, each in interfaces.items()}
        counters = {"network_receive_bytes": received, "network_transmit_bytes": sent}
        if external := self._external_among(set(interfaces)):
            counters["network_external_receive_bytes"] = {n: received[n] for n in external}
            counters["network_external_transmit_bytes"] = {n: sent[n] for n in external}
        return {name: self._totals[name].update(values) for name, values in counters.items()}

    def _external_among(self, names: set[str]) -> list[str]:
        """Interfaces whose traffic leaves the machine and is counted on no other one.

        On Linux those with hardware behind them: what a bridge, bond, VLAN or tunnel carries
        passes through one of them. A container sees no hardware: there, all but loopback.
        """
        for name in names - self._external.keys():
            self._external[name] = (self._host.sysfs / "class/net" / name / "device").exists()
        return [name for name in names if self._external[name]] or [
            name for name in names if _LOOPBACK.fullmatch(name) is None
        ]


def open_network(host: Host) -> NetworkCollector:
    """Open the interface counters.

    Raises:
        Transient: The host has no interface now.
    """
    read = partial(read_net_dev, host) if host.system == "Linux" else _read_by_psutil
    if not read():
        raise Transient("the system shows no network interface")
    return NetworkCollector(host, read)


def _read_by_psutil() -> dict[str, InterfaceBytes]:
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    return {
        name: InterfaceBytes(each.bytes_recv, each.bytes_sent) for name, each in counters.items()
    }
