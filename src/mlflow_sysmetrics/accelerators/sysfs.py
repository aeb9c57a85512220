"""A GPU that the Linux kernel reports on in files, and which of these files fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.drm import is_there, why_no_number
from mlflow_sysmetrics.accelerators.reasons import ONLY_ZEROS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mlflow_sysmetrics.accelerators.drm import Card, Gauge
    from mlflow_sysmetrics.host.host import Host


@dataclass(frozen=True)
class SysfsGpu:
    """One GPU, and where the kernel reports on it.

    Attributes:
        card: What and where it is.
        is_visible: Whether this process may use it, and its vendor's runtime shows it.
        is_integrated: Whether it is part of a CPU, as far as is known.
        gauges: Where each reading is, by its name after `gpu_<index>`.
        memory_bytes: Size of its own memory; None where not reported.
        uuid: As the vendor's variables spell it; None where it has none.
        idle_counters: Files that count the milliseconds its engines slept, one per tile.
        memory_by_pid: Reads the bytes that each process has of its memory; None where that is
            not known.
        has_zero_memory: Whether the driver reports a memory of size 0.
        index: Its number in metrics' keys.
    """

    card: Card
    is_visible: bool
    is_integrated: bool
    gauges: Mapping[str, Gauge]
    memory_bytes: int | None
    uuid: str | None = None
    idle_counters: Sequence[Path] = ()
    memory_by_pid: Callable[[], Mapping[int, int]] | None = None
    has_zero_memory: bool = False
    index: int = 0


@dataclass(frozen=True)
class SysfsVendor:
    """A vendor with drivers that report in files, as the shared code needs it.

    Attributes:
        name: `amd`.
        pci_vendor: Its number on the PCI bus, `0x1002`.
        drivers: Its kernel drivers; the last names the source where there is no driver.
        readings: What the drivers have files for, on the GPUs that have all.
        find: The host's GPUs, in the order in which they are numbered.
        always_there: Readings that every GPU has, and their files.
        read_version: The version of the driver, where it has one of its own.
        without_processes: What to say of a GPU whose processes are not known; empty where they
            never are.
    """

    name: str
    pci_vendor: str
    drivers: tuple[str, ...]
    readings: tuple[str, ...]
    find: Callable[[Host], Sequence[SysfsGpu]]
    always_there: Mapping[str, str] = field(default_factory=dict, hash=False)
    read_version: Callable[[Host], str | None] = lambda _host: None
    without_processes: str = ""


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


def why_missing(gpu: SysfsGpu, vendor: SysfsVendor) -> dict[str, str]:
    """Why readings are missing, by their names; of a GPU that is powered down nothing is known."""
    if gpu.card.is_asleep():
        return {}
    files = _all_files(gpu)
    lacks = {
        name: "the driver shows no file for it" for name in vendor.readings if name not in files
    }
    if gpu.has_zero_memory:
        lacks["memory_usage_megabytes"] = "its memory has the size 0"
    if _reads_zero_celsius(gpu):
        lacks["temperature_celsius"] = "the driver reports 0, as it does where there is none"
    return _failing(files) | lacks


def what_fails(gpu: SysfsGpu, vendor: SysfsVendor) -> str | None:
    """What a reporting GPU lacks though others of its kind have it: files that fail or are gone."""
    if gpu.card.is_asleep() or why_silent(gpu) is not None:
        return None
    files = _all_files(gpu)
    failures = _failing(files) | {
        name: f"{file}: no such file"
        for name, file in vendor.always_there.items()
        if name not in files
    }
    if not failures:
        return None
    return "does not report " + ", ".join(f"{name} ({why})" for name, why in failures.items())


def _failing(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: reason for name, path in files.items() if (reason := why_no_number(path))}


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
