"""AMD's GPUs, by what the kernel driver amdgpu shows below `/sys`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.drm import Gauge, is_there, present, read_number
from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.host.files import find_paths
from mlflow_sysmetrics.sources.kernel_file import read_kernel_text

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_sysmetrics.accelerators.drm import Card
    from mlflow_sysmetrics.host.host import Host

DRIVER = "amdgpu"

READINGS = (
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
"""What the driver has files for, on the GPUs that have all."""

EVERY_GPU_HAS = {
    "utilization_percentage": "gpu_busy_percent",
    "memory_usage_megabytes": "mem_info_vram_used",
}
"""Readings, and their files, that only a virtual function or a masked /sys lacks."""

_UNIQUE_ID = re.compile(r"[0-9a-f]{1,16}")

_PWM_TO_PERCENT = 100 / 255


def find_gauges(card: Card) -> dict[str, Gauge]:
    """Where each reading is to be found, in its metric's unit, of those that this card has.

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


def has_zero_memory(card: Card) -> bool:
    """Whether the driver reports a memory of size 0: then there is no use of it to report."""
    return read_number(card.device / "mem_info_vram_total") == 0


def memory_bytes(card: Card) -> int | None:
    """Size of its own memory; of an APU, what the firmware set aside. None where not reported."""
    return read_number(card.device / "mem_info_vram_total") or None


def is_integrated(card: Card) -> bool:
    """Whether it is part of a CPU, as far as is known: it has no memory of its own to meter."""
    if is_there(card.device / "mem_busy_percent"):
        return False
    return card.hwmon is None or not is_there(card.hwmon / "power1_cap")


def unique_id(card: Card) -> str | None:
    """Its id as ROCm's variables spell it, `GPU-` and 16 digits; None where it has none."""
    digits = (_text(card.device / "unique_id") or "").lower()
    return f"GPU-{digits:0>16}" if _UNIQUE_ID.fullmatch(digits) else None


def read_amdgpu_version(host: Host) -> str | None:
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
