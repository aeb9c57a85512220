"""What the host's network interfaces receive and send."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.collectors.counters import KeyedTotal
from mlflow_sysmetrics.host.errors import Transient
from mlflow_sysmetrics.sources.kernel_file import KernelFile
from mlflow_sysmetrics.sources.net_dev import InterfaceBytes, parse_net_dev

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from mlflow_sysmetrics.host.host import Host


# An interface without hardware that has one of these passes on what another one carries: a bridge
# and its ports, a bond, a VPN. So does one with `lower_*`: a VLAN, macvlan, ipvlan or vxlan.
_PASSES_ON = ("bridge", "brport", "bonding", "tun_flags")
_ETHERNET_AND_INFINIBAND = ("1", "32", "")  # other types are tunnels, WireGuard among them

# The names that container runtimes and Multus give to the interfaces of a container.
_OF_A_CONTAINER = re.compile(r"(eth|net)\d+")

_LOOPBACK = re.compile(r"lo\d*|loopback.*", re.IGNORECASE)


class NetworkCollector(Collector):
    """Bytes over all interfaces, as MLflow counts, and over those that lead to other machines.

    Args:
        host: The machine.
        read: Gives the counters by interface.
        close: Lets go of what it reads.
    """

    def __init__(
        self,
        host: Host,
        read: Callable[[], dict[str, InterfaceBytes]],
        close: Callable[[], None],
    ) -> None:
        self._host = host
        self._read = read
        self._close = close
        self._leads_out_by_name: dict[str, bool] = {}
        self._external: list[str] = []
        self._in_container = _is_in_container(host)
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
        if interfaces.keys() != self._leads_out_by_name.keys():
            self._external = self._external_among(interfaces.keys())
        if external := self._external:
            counters["network_external_receive_bytes"] = {n: received[n] for n in external}
            counters["network_external_transmit_bytes"] = {n: sent[n] for n in external}
        return {name: self._totals[name].update(values) for name, values in counters.items()}

    def close(self) -> None:
        """Let go of what is read; may be called twice."""
        self._close()

    def _external_among(self, names: Collection[str]) -> list[str]:
        """Interfaces whose traffic leaves the machine and is counted on no other one.

        On Linux those with hardware behind them: what a bridge, bond, VLAN or tunnel carries
        passes through one of them. In a container also those that end outside of it, which are
        all but loopback, unless it has a bridge, bond or VPN of its own.
        """
        known = self._leads_out_by_name
        self._leads_out_by_name = {
            name: known[name] if name in known else self._leads_out(name) for name in names
        }
        return [name for name in names if self._leads_out_by_name[name]] or [
            name for name in names if _LOOPBACK.fullmatch(name) is None
        ]

    def _leads_out(self, name: str) -> bool:
        folder = self._host.sysfs / "class/net" / name
        if _exists(folder / "device"):
            # Azure's synthetic interface counts what its virtual function transfers, too.
            return not _exists(folder / "master/device")
        may_be = _OF_A_CONTAINER.fullmatch(name) or self._in_container
        if not may_be or _LOOPBACK.fullmatch(name):
            return False
        try:
            marks = [path.name for path in folder.iterdir()]
        except (OSError, ValueError):  # not of the namespace that /sys shows; no name
            return False
        kind = self._host.read_text_or_empty(folder / "type")
        return kind in _ETHERNET_AND_INFINIBAND and not any(
            mark in _PASSES_ON or mark.startswith("lower_") for mark in marks
        )


def _is_in_container(host: Host) -> bool:
    """Whether the process is in a network namespace of its own: there the kernel shows less.

    False where /proc/sys is hidden.
    """
    folder = host.procfs / "sys/net/core"
    return _exists(folder) and not _exists(folder / "dev_weight")


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where forbidden


def open_network(host: Host) -> NetworkCollector:
    """Open the interface counters.

    Raises:
        Transient: The host has no interface now.
    """
    net_dev = KernelFile(f"{host.procfs}/net/dev", is_long=True)
    read: Callable[[], dict[str, InterfaceBytes]] = _read_by_psutil
    if host.system == "Linux":
        read = partial(net_dev.parsed, parse_net_dev)
    if not read():
        net_dev.close()
        raise Transient("the system shows no network interface")
    return NetworkCollector(host, read, net_dev.close)


def _read_by_psutil() -> dict[str, InterfaceBytes]:
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    return {
        name: InterfaceBytes(each.bytes_recv, each.bytes_sent) for name, each in counters.items()
    }
