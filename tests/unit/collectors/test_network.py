from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.collectors.network import open_network
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_mock import MockerFixture

    Show = Callable[..., None]

ALL = ("network_receive_bytes", "network_transmit_bytes")
EXTERNAL = ("network_external_receive_bytes", "network_external_transmit_bytes")


@pytest.fixture(params=["Linux", "Windows"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(root=tmp_path, system=request.param)


@pytest.fixture
def show(host: Host, mocker: MockerFixture) -> Show:
    """Let the system show interfaces with bytes received and sent."""
    by_psutil = mocker.patch("psutil.net_io_counters")
    (host.procfs / "net").mkdir(parents=True)

    def set_counters(**interfaces: tuple[int, int]) -> None:
        lines = ["Inter-|   Receive |  Transmit", " face |bytes packets |bytes packets"]
        counters = {}
        for name, (received, sent) in interfaces.items():
            lines.append(f"{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0")
            counters[name] = SimpleNamespace(bytes_recv=received, bytes_sent=sent)
        if host.system == "Linux":
            (host.procfs / "net/dev").write_text("\n".join(lines))
        else:
            by_psutil.return_value = counters

    return set_counters


def test_external_traffic_is_that_of_interfaces_with_hardware(show: Show, host: Host) -> None:
    _give_hardware(host, "eth0", "eth1")
    show(lo=(0, 0), eth0=(0, 0), eth1=(0, 0), bond0=(0, 0), docker0=(0, 0))
    collector = open_network(host)
    collector.collect()

    show(lo=(7, 7), eth0=(100, 10), eth1=(50, 5), bond0=(150, 15), docker0=(30, 3))

    assert _read(collector.collect()) == {
        "network_receive_bytes": 337,
        "network_transmit_bytes": 40,
        "network_external_receive_bytes": 150,
        "network_external_transmit_bytes": 15,
    }


def test_in_a_container_all_but_loopback_is_external(show: Show, host: Host) -> None:
    show(lo=(0, 0), eth0=(0, 0))
    collector = open_network(host)
    collector.collect()

    show(lo=(1000, 1000), eth0=(20, 30))

    readings = collector.collect()
    assert [readings[name] for name in EXTERNAL] == [20, 30]


@pytest.mark.parametrize("loopback", ["lo", "lo0", "Loopback Pseudo-Interface 1"])
def test_with_loopback_alone_nothing_is_external(show: Show, host: Host, loopback: str) -> None:
    show(**{loopback: (5, 5)})

    assert open_network(host).collect().keys() == set(ALL)


def test_counters_count_from_the_first_look_on(show: Show, host: Host) -> None:
    show(eth0=(10**12, 10**12))

    assert set(open_network(host).collect().values()) == {0}


def test_totals_never_fall_when_an_interface_goes_or_starts_anew(show: Show, host: Host) -> None:
    show(eth0=(100, 0), tun0=(0, 0))
    collector = open_network(host)
    collector.collect()
    received = []
    for counters in ({"eth0": (300, 0), "tun0": (50, 0)}, {"eth0": (10, 0)}, {"eth0": (60, 0)}):
        show(**counters)
        received.append(collector.collect()["network_receive_bytes"])

    assert received == [250, 250, 300]


def test_an_interface_that_comes_later_counts_from_then_on(show: Show, host: Host) -> None:
    _give_hardware(host, "eth0", "eth1")
    show(eth0=(0, 0))
    collector = open_network(host)
    collector.collect()
    show(eth0=(0, 0), eth1=(10**9, 0))
    collector.collect()

    show(eth0=(0, 0), eth1=(10**9 + 5, 0))

    assert collector.collect()["network_external_receive_bytes"] == 5


def test_a_host_without_interfaces_has_no_network_metrics(show: Show, host: Host) -> None:
    show()

    with pytest.raises(Unavailable, match="no network interface"):
        open_network(host)


def _give_hardware(host: Host, *names: str) -> None:
    for name in names:
        (host.sysfs / "class/net" / name / "device").mkdir(parents=True)


def _read(readings: dict[str, float]) -> dict[str, float]:
    assert readings.keys() == {*ALL, *EXTERNAL}
    return readings
