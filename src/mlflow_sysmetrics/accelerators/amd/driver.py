"""AMD's GPUs, by what the kernel driver amdgpu shows below `/sys`."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.amd.kfd import Node, read_memory_by_pid, read_nodes
from mlflow_sysmetrics.accelerators.amd.visibility import visible_devices
from mlflow_sysmetrics.accelerators.drm import (
    Gauge,
    is_there,
    may_use,
    present,
    read_cards,
    read_number,
)
from mlflow_sysmetrics.accelerators.hardware import AMD
from mlflow_sysmetrics.accelerators.sysfs import SysfsGpu, SysfsVendor
from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.host.files import find_paths
from mlflow_sysmetrics.sources.kernel_file import read_kernel_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow_sysmetrics.accelerators.drm import Card
    from mlflow_sysmetrics.host.host import Host

DRIVER = "amdgpu"

_READINGS = (
    "utilization_percentage",
    "memory_controller_utilization_percentage",
    "memory_usage_megabytes",
    "host_memory_usage_megabytes",
    "power_usage_watts",
    "power_limit_watts",
    "temperature_celsius",
    "memory_temperature_celsius",
    "fan_speed_percentage",
    "sm_clock_megahertz",
    "memory_clock_megahertz",
)

_ALWAYS_THERE = {
    "utilization_percentage": "gpu_busy_percent",
    "memory_usage_megabytes": "mem_info_vram_used",
}
"""Only a virtual function or a masked /sys lacks these."""

_UNIQUE_ID = re.compile(r"[0-9a-f]{1,16}")

_PWM_TO_PERCENT = 100 / 255


def find_gpus(host: Host) -> list[SysfsGpu]:
    """The host's GPUs, by their PCI addresses."""
    cards = read_cards(host, (DRIVER,))
    nodes = read_nodes(host) if cards else ()
    visible = _visible_slots(host, cards, nodes)
    return [_gpu(host, card, nodes, is_visible=card.slot in visible) for card in cards]


def _gpu(host: Host, card: Card, nodes: Sequence[Node], *, is_visible: bool) -> SysfsGpu:
    kfd_ids = [node.kfd_id for node in nodes if node.slot == card.slot]
    size_bytes = read_number(card.device / "mem_info_vram_total")
    return SysfsGpu(
        card,
        is_visible=is_visible,
        is_integrated=_is_integrated(card),
        gauges=find_gauges(card),
        memory_bytes=size_bytes or None,
        uuid=unique_id(card),
        memory_by_pid=partial(read_memory_by_pid, host, kfd_ids) if kfd_ids else None,
        has_zero_memory=size_bytes == 0,
    )


def _visible_slots(host: Host, cards: Sequence[Card], nodes: Sequence[Node]) -> set[str]:
    """ROCm counts KFD's nodes, so every part of a GPU; without KFD the cards stand for them."""
    devices = nodes or [Node("", card.slot, card.render_node, unique_id(card)) for card in cards]
    usable = [device for device in devices if may_use(host, device.render_node)] or devices
    ids = [device.unique_id for device in usable]
    return {usable[position].slot for position in visible_devices(host.environ, ids)}


def find_gauges(card: Card) -> dict[str, Gauge]:
    """The file of each reading that this card has, scaled to the metric's unit.

    An APU has few of them, and a virtual function may have none. The temperature is the edge's,
    or the hottest spot's where there is no other, as on the MI300.
    """
    gauges = {
        "utilization_percentage": Gauge(card.device / "gpu_busy_percent"),
        "memory_controller_utilization_percentage": Gauge(card.device / "mem_busy_percent"),
        "memory_usage_megabytes": Gauge(card.device / "mem_info_vram_used", 1e-6),
        "host_memory_usage_megabytes": Gauge(card.device / "mem_info_gtt_used", 1e-6),
    }
    if card.hwmon is not None:
        gauges |= _sensors(card.hwmon)
    return present(gauges)


def _sensors(hwmon: Path) -> dict[str, Gauge]:
    temperatures = _labelled(hwmon, "temp", scale=1e-3)
    clocks = _labelled(hwmon, "freq", scale=1e-6)
    average, instant = hwmon / "power1_average", hwmon / "power1_input"
    named = {
        "power_usage_watts": Gauge(average if is_there(average) else instant, 1e-6),
        "power_limit_watts": Gauge(hwmon / "power1_cap", 1e-6),
        "energy_joules": Gauge(hwmon / "energy1_input", 1e-6),
        "fan_speed_percentage": Gauge(hwmon / "pwm1", _PWM_TO_PERCENT),
        "temperature_celsius": temperatures.get("edge") or temperatures.get("junction"),
        "memory_temperature_celsius": temperatures.get("mem"),
        "sm_clock_megahertz": clocks.get("sclk"),
        "memory_clock_megahertz": clocks.get("mclk"),
    }
    return {name: gauge for name, gauge in named.items() if gauge is not None}


def _labelled(hwmon: Path, kind: str, scale: float) -> dict[str, Gauge]:
    """The inputs of a kind by what their labels say: `temp2_label` is `junction`."""
    gauges: dict[str, Gauge] = {}
    for path in find_paths(hwmon, f"{kind}*_label"):
        reading = path.with_name(path.name.replace("_label", "_input"))
        if is_there(reading):
            label = _text(path)
            if label is not None:
                gauges.setdefault(label, Gauge(reading, scale))
    return gauges


def _is_integrated(card: Card) -> bool:
    """Whether it is part of a CPU, as far as is known: it has no memory of its own to meter."""
    if is_there(card.device / "mem_busy_percent"):
        return False
    return card.hwmon is None or not is_there(card.hwmon / "power1_cap")


def unique_id(card: Card) -> str | None:
    """Its id as ROCm's variables spell it, `GPU-` and 16 digits; None where it has none."""
    digits = (_text(card.device / "unique_id") or "").lower()
    return f"GPU-{digits:0>16}" if _UNIQUE_ID.fullmatch(digits) else None


def _read_version(host: Host) -> str | None:
    """Version of the driver that comes with ROCm; None of the kernel's own, which has none."""
    return host.read_text_or_empty("sys/module/amdgpu/version") or None


def _text(path: Path) -> str | None:
    """The content of a small file; None where it is not there.

    Raises:
        Transient: It cannot be read now.
    """
    try:
        return read_kernel_text(str(path)).strip()
    except Transient:
        raise
    except Unavailable:
        return None


AMD_GPUS = SysfsVendor(
    "amd",
    AMD,
    (DRIVER,),
    _READINGS,
    find_gpus,
    _ALWAYS_THERE,
    _read_version,
    "which processes use GPU {} is not known: the kernel's compute driver (KFD) lacks it",
)
