"""The GPUs of AMD and Intel in a Linux host: which there are, and where their figures stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host import Absent, Unavailable, find_paths
from mlflow_sysmetrics.settings import Settings
from mlflow_sysmetrics.sources import amdgpu, intel_gpu, oneapi_visibility, rocm_visibility
from mlflow_sysmetrics.sources.drm import read_cards
from mlflow_sysmetrics.sources.gpu_inventory import Device
from mlflow_sysmetrics.sources.kfd import Node, read_nodes
from mlflow_sysmetrics.sources.pci_names import read_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from mlflow_sysmetrics.host import Host
    from mlflow_sysmetrics.sources.drm import Card, Gauge

_NVIDIA = "0x10de"


@dataclass(frozen=True)
class SysfsGpu:
    """One GPU, and where the kernel reports on it.

    Attributes:
        index: Its number in metrics' keys.
        card: What and where it is.
        is_visible: Whether this process may use it, and ROCm or Level Zero shows it.
        gauges: Where each reading is, by its name after `gpu_<index>_`.
        memory_bytes: Size of its own memory; None where not reported.
        idle_counters: Where the milliseconds are counted in which its engines slept, by tile.
        kfd_ids: What AMD's compute driver, which knows whose processes use it, calls it.
    """

    index: int
    card: Card
    is_visible: bool
    gauges: Mapping[str, Gauge]
    memory_bytes: int | None
    idle_counters: Sequence[Path] = ()
    kfd_ids: Sequence[str] = ()


def read_sysfs_gpus(host: Host) -> tuple[SysfsGpu, ...]:
    """AMD's GPUs and then Intel's, numbered on from NVIDIA's, each by their PCI addresses.

    What is part of a CPU drives a screen in most hosts that have another GPU as well: it counts
    only in a host that has no other.
    """
    amd = read_cards(host, (amdgpu.DRIVER,))
    intel = sorted(read_cards(host, intel_gpu.DRIVERS), key=intel_gpu.is_integrated)
    nodes = read_nodes(host) if amd else ()
    visible = {*_seen_by_rocm(host, amd, nodes), *_seen_by_level_zero(host, intel)}
    nvidia_count = count_nvidia_gpus(host)
    cards = [*amd, *intel]
    discrete = [card for card in cards if not _is_integrated(card)]
    counted = discrete if discrete or nvidia_count else cards
    return tuple(
        _gpu(index, card, nodes, is_visible=card in visible)
        for index, card in enumerate(counted, start=nvidia_count)
    )


def select(gpus: Sequence[SysfsGpu], drivers: Collection[str], whose: str) -> tuple[SysfsGpu, ...]:
    """Those of some drivers that are the run's; with `used`, all that may come to be used.

    Args:
        gpus: The host's.
        drivers: The drivers.
        whose: As MLFLOW_SYSMETRICS_GPUS has it; where it is not known who uses a GPU, `used`
            means `visible`.

    Raises:
        Unavailable: There is none that counts here, or none that is shown to this process.
    """
    of_drivers = [gpu for gpu in gpus if gpu.card.pci.driver in drivers]
    if not of_drivers:
        raise Absent(f"no GPU of the driver {' or '.join(drivers)}")
    if whose == "all":
        return tuple(of_drivers)
    selected = [gpu for gpu in of_drivers if gpu.is_visible or (whose == "used" and gpu.kfd_ids)]
    if not selected:
        raise Unavailable("the environment variables of ROCm or oneAPI show this process no GPU")
    return tuple(selected)


def check_sysfs_gpus(host: Host, drivers: Collection[str]) -> None:
    """See whether there are GPUs of some drivers for this run.

    Raises:
        Unavailable: There are not; the message says why.
    """
    select(read_sysfs_gpus(host), drivers, Settings.from_env(host.environ).gpus)


def read_devices(host: Host) -> tuple[Device, ...]:
    """What these GPUs are."""
    return tuple(
        Device(
            gpu.index,
            read_name(host, gpu.card),
            gpu.memory_bytes,
            uuid=amdgpu.unique_id(gpu.card),
            pci_id=gpu.card.pci.address,
            power_limit_watts=_power_limit_watts(gpu),
        )
        for gpu in read_sysfs_gpus(host)
    )


def count_nvidia_gpus(host: Host) -> int:
    """GPUs that the NVIDIA driver has here, whether or not NVML can be asked for them."""
    return len(find_paths(host.procfs, "driver/nvidia/gpus/*"))


def has_nvidia_device(host: Host) -> bool:
    """Whether something of NVIDIA's is on Linux's PCI bus, with or without a driver."""
    paths = find_paths(host.sysfs, "bus/pci/devices/*/vendor")
    return any(host.read_text_or_empty(path) == _NVIDIA for path in paths)


def _power_limit_watts(gpu: SysfsGpu) -> float | None:
    gauge = gpu.gauges.get("power_limit_watts")
    if gauge is None or gpu.card.is_asleep():
        return None
    return gauge.read() or None


def _is_amds(card: Card) -> bool:
    return card.pci.driver == amdgpu.DRIVER


def _is_integrated(card: Card) -> bool:
    return amdgpu.is_integrated(card) if _is_amds(card) else intel_gpu.is_integrated(card)


def _gpu(index: int, card: Card, nodes: Sequence[Node], *, is_visible: bool) -> SysfsGpu:
    if _is_amds(card):
        gauges, memory_bytes = amdgpu.find_gauges(card), amdgpu.memory_bytes(card)
        kfd_ids = [node.kfd_id for node in nodes if node.slot == card.slot]
        return SysfsGpu(index, card, is_visible, gauges, memory_bytes, kfd_ids=kfd_ids)
    gauges, memory_bytes = intel_gpu.find_gauges(card), intel_gpu.memory_bytes(card)
    idle_counters = intel_gpu.find_idle_counters(card)
    return SysfsGpu(index, card, is_visible, gauges, memory_bytes, idle_counters)


def _seen_by_rocm(host: Host, cards: Sequence[Card], nodes: Sequence[Node]) -> list[Card]:
    """ROCm counts KFD's nodes, so each part of a GPU; without KFD the cards stand for them."""
    devices = nodes or [
        Node("", card.slot, card.render_node, amdgpu.unique_id(card)) for card in cards
    ]
    usable = [device for device in devices if _may_use(host, device.render_node)] or devices
    ids = [device.unique_id for device in usable]
    seen = {usable[at].slot for at in rocm_visibility.visible_devices(host.environ, ids)}
    return [card for card in cards if card.slot in seen]


def _seen_by_level_zero(host: Host, cards: Sequence[Card]) -> list[Card]:
    """Level Zero lists what is part of a CPU last."""
    usable = [card for card in cards if _may_use(host, card.render_node)] or cards
    tiles = [intel_gpu.count_tiles(card) for card in usable]
    return [usable[at] for at in oneapi_visibility.visible_devices(host.environ, tiles)]


def _may_use(host: Host, render_node: str | None) -> bool:
    """Whether a GPU was passed into this container, so that the variables number it."""
    return render_node is not None and host.may_use(f"dev/dri/{render_node}")
