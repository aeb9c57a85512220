"""Intel's GPUs, by what the kernel drivers xe and i915 show below `/sys`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.drm import (
    Gauge,
    is_there,
    may_use,
    present,
    read_cards,
    read_number,
)
from mlflow_sysmetrics.accelerators.hardware import INTEGRATED_AT, INTEL
from mlflow_sysmetrics.accelerators.intel.visibility import visible_devices
from mlflow_sysmetrics.accelerators.sysfs import SysfsGpu, SysfsVendor
from mlflow_sysmetrics.host.files import find_paths

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_sysmetrics.accelerators.drm import Card
    from mlflow_sysmetrics.host.host import Host

DRIVERS = ("xe", "i915")

_READINGS = (
    "utilization_percentage",
    "energy_joules",
    "power_limit_watts",
    "temperature_celsius",
    "memory_temperature_celsius",
    "sm_clock_megahertz",
)

_CHANNELS = ("1", "2")
"""Of power and energy: the whole card, and the package, which is all that some cards meter."""


def find_gpus(host: Host) -> list[SysfsGpu]:
    """The host's GPUs, by their PCI addresses; as in Level Zero, an integrated one is the last."""
    cards = sorted(read_cards(host, DRIVERS), key=_is_integrated)
    usable = [card for card in cards if may_use(host, card.render_node)] or cards
    positions = visible_devices(host.environ, [_count_tiles(card) for card in usable])
    visible = [usable[position] for position in positions]
    return [
        SysfsGpu(
            card,
            is_visible=card in visible,
            is_integrated=_is_integrated(card),
            gauges=find_gauges(card),
            memory_bytes=_memory_bytes(card),
            idle_counters=_find_idle_counters(card),
        )
        for card in cards
    ]


def find_gauges(card: Card) -> dict[str, Gauge]:
    """The file of each reading that this card has, scaled to the metric's unit."""
    gauges = {"sm_clock_megahertz": _first(_clock_files(card))}
    if card.hwmon is not None:
        channel = _channel(card.hwmon)
        gauges |= {
            "energy_joules": Gauge(card.hwmon / f"energy{channel}_input", 1e-6),
            "power_limit_watts": Gauge(card.hwmon / f"power{channel}_max", 1e-6),
            "temperature_celsius": _first(
                [card.hwmon / "temp2_input", card.hwmon / "temp1_input"], 1e-3
            ),
            "memory_temperature_celsius": _first([card.hwmon / "temp3_input"], 1e-3),
        }
    return present({name: gauge for name, gauge in gauges.items() if gauge is not None})


def _find_idle_counters(card: Card) -> list[Path]:
    """Where the kernel counts the milliseconds that each tile's main engines (GT 0) slept.

    Sleep is the state RC6 or C6: the clock of compute, copy and render engines is off. Media
    engines have a GT of their own on newer chips and are not looked at.
    """
    if card.pci.driver == "xe":
        return find_paths(card.device, "tile*/gt0/gtidle/idle_residency_ms")
    places = ("gt/gt0/rc6_residency_ms", "power/rc6_residency_ms")
    return [path for place in places if is_there(path := card.directory / place)][:1]


def _memory_bytes(card: Card) -> int | None:
    """Size of its own memory; None where not reported, as by i915, and where it has none."""
    sizes = [
        read_number(path) for path in find_paths(card.device, "tile*/physical_vram_size_bytes")
    ]
    return sum(size for size in sizes if size) or None


def _count_tiles(card: Card) -> int:
    """Into how many devices Level Zero may divide it."""
    return max(1, len(find_paths(card.device, "tile[0-9]*")))


def _is_integrated(card: Card) -> bool:
    """Whether it is part of a CPU."""
    return card.pci.address == INTEGRATED_AT


def _clock_files(card: Card) -> list[Path]:
    if card.pci.driver == "xe":
        return [card.device / "tile0/gt0/freq0/act_freq"]
    return [card.directory / "gt/gt0/rps_act_freq_mhz", card.directory / "gt_act_freq_mhz"]


def _channel(hwmon: Path) -> str:
    """The channel that meters energy, else the one that has a limit; both readings use it."""
    for name in ("energy{}_input", "power{}_max"):
        for channel in _CHANNELS:
            if is_there(hwmon / name.format(channel)):
                return channel
    return _CHANNELS[0]


def _first(paths: list[Path], scale: float = 1.0) -> Gauge | None:
    return next((Gauge(path, scale) for path in paths if is_there(path)), None)


INTEL_GPUS = SysfsVendor("intel", INTEL, DRIVERS, _READINGS, find_gpus)
