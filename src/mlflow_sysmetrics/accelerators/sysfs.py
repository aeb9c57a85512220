"""The GPUs of AMD and Intel in a Linux host: which there are, and where their figures stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.amd import amdgpu
from mlflow_sysmetrics.accelerators.amd import visibility as rocm_visibility
from mlflow_sysmetrics.accelerators.amd.kfd import Node, read_nodes
from mlflow_sysmetrics.accelerators.drm import is_there, read_cards, why_no_number
from mlflow_sysmetrics.accelerators.hardware import why_not_driven
from mlflow_sysmetrics.accelerators.intel import intel_gpu
from mlflow_sysmetrics.accelerators.intel import visibility as oneapi_visibility
from mlflow_sysmetrics.accelerators.inventory import Device
from mlflow_sysmetrics.accelerators.pci_names import read_name
from mlflow_sysmetrics.accelerators.reasons import ONLY_ZEROS, check_silent, say_of_each
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.files import find_paths
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from mlflow_sysmetrics.accelerators.drm import Card, Gauge
    from mlflow_sysmetrics.host.host import Host


@dataclass(frozen=True)
class SysfsGpu:
    """One GPU, and where the kernel reports on it.

    Attributes:
        index: Its number in metrics' keys.
        card: What and where it is.
        is_visible: Whether this process may use it, and ROCm or Level Zero shows it.
        gauges: Where each reading is, by its name after `gpu_<index>`.
        memory_bytes: Size of its own memory; None where not reported.
        idle_counters: Where the milliseconds are counted in which its engines slept, by tile.
        kfd_ids: What AMD's compute driver, which knows whose processes use it, calls it.
        has_zero_memory: Whether the driver reports a memory of size 0.
    """

    index: int
    card: Card
    is_visible: bool
    gauges: Mapping[str, Gauge]
    memory_bytes: int | None
    idle_counters: Sequence[Path] = ()
    kfd_ids: Sequence[str] = ()
    has_zero_memory: bool = False


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


def check_sysfs_gpus(host: Host, drivers: Collection[str]) -> tuple[str, ...]:
    """See whether there are GPUs of some drivers for this run that report something.

    Returns:
        What they do not report though they should, and why.

    Raises:
        Absent: There is no such GPU.
        Unavailable: There is none for this run, or none reports; the message says why.
    """
    gpus = read_sysfs_gpus(host)
    selected = select(gpus, drivers, Settings.from_env(host.environ).gpus)
    count = gpus[-1].index + 1
    notes = check_silent({gpu.index: why_silent(gpu) for gpu in selected}, count)
    missing = [(gpu.index, text) for gpu in selected if (text := _what_fails(gpu))]
    return (*notes, *say_of_each(missing, count))


def check_driven(host: Host, vendor: str, drivers: Collection[str]) -> None:
    """See whether the GPUs of a vendor have a driver that reports.

    Raises:
        Unavailable: There are some, and none has.
    """
    reason = None if read_cards(host, drivers) else why_not_driven(host, vendor, drivers)
    if reason is not None:
        raise Unavailable(reason)


def why_silent(gpu: SysfsGpu) -> str | None:
    """Why a GPU reports nothing, as what follows its name in a sentence; None where it reports.

    One that is powered down is not asked, for that would wake it up.
    """
    if gpu.card.is_asleep():
        return None
    reasons = [why_no_number(path) for path in _files(gpu).values()]
    if not reasons:
        return "reports nothing (its driver shows no file with figures)"
    if None not in reasons:
        return f"reports nothing ({reasons[0]})"
    return ONLY_ZEROS if gpu.has_zero_memory and _reads_zero_celsius(gpu) else None


def why_missing(gpu: SysfsGpu) -> dict[str, str]:
    """Why readings are missing, by their names; of a GPU that is powered down nothing is known."""
    if gpu.card.is_asleep():
        return {}
    reasons = {name: why_no_number(path) for name, path in _all_files(gpu).items()}
    known = amdgpu.READINGS if _is_amds(gpu.card) else intel_gpu.READINGS
    lacks = {name: "the driver shows no file for it" for name in known if name not in reasons}
    if gpu.has_zero_memory:
        lacks["memory_usage_megabytes"] = "its memory has the size 0"
    if _reads_zero_celsius(gpu):
        lacks["temperature_celsius"] = "the driver reports 0, as it does where there is none"
    return {name: reason for name, reason in reasons.items() if reason is not None} | lacks


def _what_fails(gpu: SysfsGpu) -> str | None:
    """What a GPU that reports does not report though its like does: its files fail or are gone."""
    if why_silent(gpu) is not None or gpu.card.is_asleep():
        return None
    files = _all_files(gpu)
    failures = {name: reason for name, path in files.items() if (reason := why_no_number(path))}
    if _is_amds(gpu.card):
        failures |= {
            name: f"{file}: no such file"
            for name, file in amdgpu.EVERY_GPU_HAS.items()
            if name not in files
        }
    if not failures:
        return None
    return "does not report " + ", ".join(f"{name} ({why})" for name, why in failures.items())


def _files(gpu: SysfsGpu) -> dict[str, Path]:
    """The files that its readings come from, by their names."""
    files = {name: gauge.path for name, gauge in gpu.gauges.items()}
    for counter in gpu.idle_counters:
        files.setdefault("utilization_percentage", counter)
    return files


def _all_files(gpu: SysfsGpu) -> dict[str, Path]:
    """The same, and the size of its memory, of which what is used is a share."""
    size = gpu.card.device / "mem_info_vram_total"
    return _files(gpu) | ({"memory_usage_percentage": size} if is_there(size) else {})


def _reads_zero_celsius(gpu: SysfsGpu) -> bool:
    gauge = gpu.gauges.get("temperature_celsius")
    return gauge is not None and gauge.read() == 0


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
        return SysfsGpu(
            index,
            card,
            is_visible,
            gauges,
            memory_bytes,
            kfd_ids=kfd_ids,
            has_zero_memory=amdgpu.has_zero_memory(card),
        )
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
