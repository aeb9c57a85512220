"""Limits that a container does not see, and which interfaces lead out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.collectors.container import open_container
from mlflow_sysmetrics.collectors.network import open_network
from mlflow_sysmetrics.facts.memory import read_memory_limit
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GIB = 1 << 30
UNLIMITED = 9223372036854771712
MEMORY = "sys/fs/cgroup/memory"


def write(root: Path, **files: object) -> None:
    """Write files below `root`; `__` stands for a slash in their names."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def write_group(
    root: Path, folder: str, *, limit: int, hierarchical: int, used: int, oom_kills: int = 0
) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    write(
        root / folder,
        **{
            "memory.limit_in_bytes": limit,
            "memory.usage_in_bytes": used,
            "memory.stat": f"cache 0\nhierarchical_memory_limit {hierarchical}\n"
            f"hierarchical_memsw_limit {UNLIMITED}\ntotal_inactive_file 0",
            "memory.oom_control": f"oom_kill_disable 0\nunder_oom 0\noom_kill {oom_kills}",
        },
    )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A process in the group /job/task of version 1, on a host with 16 GiB."""
    write(
        tmp_path,
        proc__meminfo=f"MemTotal: {16 * GIB // 1024} kB",
        proc__self__cgroup="4:memory:/job/task",
        proc__self__mountinfo=f"35 31 0:32 / /{MEMORY} ro - cgroup cgroup rw,memory",
    )
    return Host(tmp_path, "Linux", {})


@pytest.fixture
def container(host: Host) -> Host:
    """The same that sees its own group alone."""
    write(
        host.root,
        proc__self__cgroup="4:memory:/",
        proc__self__mountinfo=f"35 31 0:32 / /{MEMORY} ro - cgroup cgroup rw,memory",
    )
    return host


def test_a_limit_on_the_pod_bounds_a_container_that_sees_only_its_own_group(
    container: Host,
) -> None:
    write_group(container.root, MEMORY, limit=UNLIMITED, hierarchical=GIB, used=GIB // 2)

    assert read_memory_limit(container) == {"sys.memory_limit_gb": "1.07"}
    assert open_container(container).collect() == {
        "container/memory_usage_megabytes": pytest.approx(536.87, abs=0.01),
        "container/memory_usage_percentage": 50,
        "container/oom_kills": 0,
    }


def test_the_tighter_of_the_containers_own_limit_and_the_pods_counts(container: Host) -> None:
    write_group(container.root, MEMORY, limit=2 * GIB, hierarchical=GIB, used=GIB // 4)

    assert open_container(container).collect()["container/memory_usage_percentage"] == 25


def test_without_a_limit_anywhere_there_is_none(container: Host) -> None:
    write_group(container.root, MEMORY, limit=UNLIMITED, hierarchical=UNLIMITED, used=1)

    assert read_memory_limit(container) == {}
    with pytest.raises(Unavailable):
        open_container(container)


def test_a_limit_above_the_hosts_memory_is_none(container: Host) -> None:
    write_group(container.root, MEMORY, limit=UNLIMITED, hierarchical=64 * GIB, used=1)

    assert read_memory_limit(container) == {}


def test_memory_is_that_of_the_group_that_has_the_limit(host: Host) -> None:
    """And kills are counted where version 1 counts them: in the process's own group."""
    write_group(host.root, MEMORY, limit=UNLIMITED, hierarchical=UNLIMITED, used=9 * GIB)
    write_group(host.root, f"{MEMORY}/job", limit=4 * GIB, hierarchical=4 * GIB, used=3 * GIB)
    write_group(
        host.root, f"{MEMORY}/job/task",
        limit=UNLIMITED, hierarchical=4 * GIB, used=GIB, oom_kills=2,
    )  # fmt: skip

    readings = open_container(host).collect()
    assert readings["container/memory_usage_percentage"] == 75
    assert readings["container/oom_kills"] == 2


def test_a_kernel_that_tells_only_the_groups_own_limit_is_believed(container: Host) -> None:
    write_group(container.root, MEMORY, limit=GIB, hierarchical=GIB, used=GIB // 4)
    write(container.root / MEMORY, **{"memory.stat": "total_inactive_file 0"})

    assert open_container(container).collect()["container/memory_usage_percentage"] == 25


OWN_NAMESPACE = ("proc/sys/net/core/somaxconn",)
MACHINES_NAMESPACE = (*OWN_NAMESPACE, "proc/sys/net/core/dev_weight")
HARDWARE = ("device/vendor",)
NOTHING = ("mtu",)


def received_from_outside(
    root: Path, interfaces: Mapping[str, tuple[str, ...]], namespace: tuple[str, ...] = ()
) -> str:
    """Which interfaces count: they receive 1, 10, 100, … bytes, in the order of `interfaces`."""
    for path in namespace:
        write(root, **{path: 64})
    for name, files in interfaces.items():
        for file in files:
            path, _, content = file.partition("=")
            write(root / "sys/class/net" / name, **{path: content})
    names = list(interfaces)[::-1]
    sizes = [10**position for position in range(len(names))]
    write(root, proc__net__dev=_net_dev(dict.fromkeys(names, 0)))
    collector = open_network(Host(root, "Linux", {}))
    collector.collect()
    write(root, proc__net__dev=_net_dev(dict(zip(names, sizes, strict=True))))
    received = int(collector.collect()["network_external_receive_bytes"])
    return " ".join(
        name for name, digit in zip(interfaces, f"{received:0{len(names)}}", strict=True)
        if digit == "1"
    )  # fmt: skip


def _net_dev(received: dict[str, int]) -> str:
    lines = (f"{name:>6}: {size} 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0" for name, size in received.items())
    return "\n".join(("Inter-|   Receive", " face |bytes    packets", *lines))


@pytest.mark.parametrize(
    ("interfaces", "counted"),
    [
        pytest.param(
            {"lo": ("type=772",), "eth0": NOTHING, "net1": HARDWARE}, "eth0 net1", id="SR-IOV"
        ),
        pytest.param({"lo": NOTHING, "eth0": NOTHING, "eth1": NOTHING}, "eth0 eth1", id="veths"),
        pytest.param(
            {"eth0": NOTHING, "ib0": ("type=32",), "roce": HARDWARE}, "eth0 ib0 roce", id="IB"
        ),
        pytest.param(
            {"storage": NOTHING, "eth0": NOTHING, "dev": HARDWARE},
            "storage eth0 dev", id="a macvlan with a name of its own",
        ),
        pytest.param(
            {"bond0": ("bonding/mode", "lower_net1/mtu", "lower_net2/mtu"), "eth0": NOTHING,
             "net1": (*HARDWARE, "bonding_slave/state", "master/mtu"),
             "net2": (*HARDWARE, "bonding_slave/state", "master/mtu")},
            "eth0 net1 net2", id="a bond of virtual functions",
        ),
        pytest.param(
            {"bond0": ("bonding/mode", "lower_eth0/mtu", "lower_eth1/mtu"), "net1": HARDWARE,
             "eth0": ("bonding_slave/state", "master/mtu"),
             "eth1": ("bonding_slave/state", "master/mtu")},
            "net1 eth0 eth1", id="a bond without hardware",
        ),
        pytest.param(
            {"eth0": NOTHING, "docker0": ("bridge/bridge_id", "lower_veth1/mtu"),
             "veth1": ("brport/state", "master/mtu"), "net1": HARDWARE},
            "eth0 net1", id="Docker in Docker",
        ),
        pytest.param(
            {"eth0": ("type=1",), "tun0": ("type=65534", "tun_flags"), "wg0": ("type=65534",),
             "tunl0": ("type=768",), "eth0.5": ("lower_eth0/mtu",), "vxlan1": ("lower_eth0/mtu",)},
            "eth0", id="VPN, VLAN and overlay over eth0",
        ),
        pytest.param({"lo": ("type=772",), "tap0": ("tun_flags",)}, "tap0", id="rootless"),
    ],
)  # fmt: skip
def test_in_a_container_all_counts_that_leads_out_of_it_and_nothing_twice(
    interfaces: dict[str, tuple[str, ...]], counted: str, tmp_path: Path
) -> None:
    assert received_from_outside(tmp_path, interfaces, OWN_NAMESPACE) == counted


def test_the_first_interface_of_a_pod_counts_also_where_proc_sys_is_hidden(tmp_path: Path) -> None:
    interfaces = {"lo": NOTHING, "eth0": NOTHING, "net1": HARDWARE, "net2": NOTHING}

    assert received_from_outside(tmp_path, interfaces) == "eth0 net1 net2"


@pytest.mark.parametrize("namespace", [MACHINES_NAMESPACE, ()], ids=["told", "not told"])
@pytest.mark.parametrize(
    ("interfaces", "counted"),
    [
        pytest.param(
            {"lo": NOTHING, "eno1": HARDWARE, "docker0": ("bridge/bridge_id",),
             "veth12ab": ("brport/state", "master/mtu"), "cali12ab": NOTHING, "gke12ab": NOTHING},
            "eno1", id="containers",
        ),
        pytest.param(
            {"bond0": ("bonding/mode",), "eno1": (*HARDWARE, "master/mtu"),
             "eno2": (*HARDWARE, "master/mtu"), "bond0.7": ("lower_bond0/mtu",), "br0": NOTHING},
            "eno1 eno2", id="a bond, a VLAN on it and a bridge",
        ),
        pytest.param(
            {"wlp2s0": HARDWARE, "tun0": ("tun_flags",), "wg0": NOTHING, "macvtap0": NOTHING,
             "ipvl0": NOTHING, "virbr0": ("bridge/bridge_id",), "vnet0": ("tun_flags",)},
            "wlp2s0", id="VPN and virtual machines",
        ),
        pytest.param(
            {"eth0": HARDWARE, "enP1s1": (*HARDWARE, "master/device/vendor")},
            "eth0", id="Azure's virtual function, counted by the interface above it",
        ),
    ],
)  # fmt: skip
def test_on_a_machine_only_hardware_counts_and_nothing_twice(
    interfaces: dict[str, tuple[str, ...]],
    counted: str,
    namespace: tuple[str, ...],
    tmp_path: Path,
) -> None:
    assert received_from_outside(tmp_path, interfaces, namespace) == counted
