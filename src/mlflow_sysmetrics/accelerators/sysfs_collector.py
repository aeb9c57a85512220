"""GPUs that Linux reports on in files: numbered, probed and opened in one way for all vendors."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.amd.driver import AMD_GPUS
from mlflow_sysmetrics.accelerators.contract import Found, Vendor
from mlflow_sysmetrics.accelerators.drm import read_cards
from mlflow_sysmetrics.accelerators.hardware import why_not_driven
from mlflow_sysmetrics.accelerators.intel.drivers import INTEL_GPUS
from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.accelerators.own_processes import find_own_processes
from mlflow_sysmetrics.accelerators.pci_names import read_name
from mlflow_sysmetrics.accelerators.reasons import check_silent, group_by_reason
from mlflow_sysmetrics.accelerators.sysfs import what_fails, why_silent
from mlflow_sysmetrics.accelerators.sysfs_readings import Gpu, SysfsGpuCollector
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.files import find_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.accelerators.sysfs import SysfsGpu, SysfsVendor
    from mlflow_sysmetrics.host.host import Host

SYSFS_VENDORS = (AMD_GPUS, INTEL_GPUS)
"""In the order in which their GPUs are numbered."""


def number_gpus(host: Host) -> tuple[tuple[SysfsVendor, SysfsGpu], ...]:
    """The host's GPUs, vendor after vendor, numbered on from NVIDIA's.

    NVIDIA's are counted without NVML, so that numbers do not move when it fails. An integrated
    GPU drives a screen in most hosts that have another GPU: it counts only in a host without one.
    """
    found = [(vendor, gpu) for vendor in SYSFS_VENDORS for gpu in vendor.find(host)]
    discrete = [(vendor, gpu) for vendor, gpu in found if not gpu.is_integrated]
    first = len(find_paths(host.procfs, "driver/nvidia/gpus/*"))
    counted = discrete if discrete or first else found
    return tuple(
        (vendor, replace(gpu, index=index))
        for index, (vendor, gpu) in enumerate(counted, start=first)
    )


def select(gpus: Sequence[SysfsGpu], setting: str) -> list[SysfsGpu]:
    """The run's GPUs; with `used`, also those whose use by the run can be seen later.

    Args:
        gpus: Those of one vendor.
        setting: As MLFLOW_SYSMETRICS_GPUS has it.

    Raises:
        Unavailable: None of them is shown to this process.
    """
    selected = [
        gpu
        for gpu in gpus
        if setting == "all" or gpu.is_visible or (setting == "used" and gpu.memory_by_pid)
    ]
    if not selected:
        raise Unavailable("the environment variables of ROCm or oneAPI show this process no GPU")
    return selected


def _find(
    host: Host, vendor: SysfsVendor
) -> tuple[Sequence[tuple[SysfsVendor, SysfsGpu]], list[SysfsGpu]]:
    """All GPUs of the host, and those of a vendor; raises as `probe` does."""
    numbered = number_gpus(host)
    gpus = [gpu for owner, gpu in numbered if owner is vendor]
    if gpus:
        return numbered, gpus
    if not read_cards(host, vendor.drivers):
        reason = why_not_driven(host, vendor.pci_vendor, vendor.drivers)
        if reason is not None:
            raise Unavailable(reason)
    raise Absent(f"no GPU of the driver {' or '.join(vendor.drivers)}")


def probe(host: Host, vendor: SysfsVendor) -> Found:
    """What a vendor has in this host, and which of it does not report.

    Raises:
        Absent: There is no GPU of the vendor that counts.
        Unavailable: There is one, without a driver that reports.
    """
    numbered, gpus = _find(host, vendor)
    inventory = Inventory(
        driver=vendor.read_version(host), devices=tuple(_device(host, gpu) for gpu in gpus)
    )
    source = ",".join(sorted({gpu.card.pci.driver for gpu in gpus}, key=vendor.drivers.index))
    count = numbered[-1][1].index + 1
    try:
        selected = select(gpus, host.settings.gpus)
        silent = check_silent({gpu.index: why_silent(gpu) for gpu in selected}, count)
    except Unavailable as reason:
        return Found(inventory, reason, source=source)
    failing = [(gpu.index, text) for gpu in selected if (text := what_fails(gpu, vendor))]
    return Found(inventory, notes=(*silent, *group_by_reason(failing, count)), source=source)


def open_gpus(host: Host, vendor: SysfsVendor) -> SysfsGpuCollector:
    """Open the run's GPUs of a vendor.

    Totals are of one vendor's GPUs, the first by their numbers: a run uses no other's.

    Raises:
        Unavailable: There are none, or they have no driver that reports.
    """
    numbered, gpus = _find(host, vendor)
    own, notes = find_own_processes(host) if vendor.without_processes else (None, [])
    setting = host.settings.gpus
    if setting == "used" and own is None:
        setting = "visible"
    selected = select(gpus, setting)
    if own is not None:
        unknown = [gpu for gpu in selected if gpu.memory_by_pid is None]
        notes += [vendor.without_processes.format(gpu.index) for gpu in unknown]
    is_first = numbered[0][0] is vendor and numbered[0][1].index == 0
    readers = [
        Gpu(vendor, gpu, own, host.clock, only_if_used=setting == "used") for gpu in selected
    ]
    return SysfsGpuCollector(readers, makes_totals=is_first, notes=notes)


def _device(host: Host, gpu: SysfsGpu) -> Device:
    limit = gpu.gauges.get("power_limit_watts")
    return Device(
        gpu.index,
        read_name(host, gpu.card),
        gpu.memory_bytes,
        gpu.uuid,
        pci_id=gpu.card.pci.address,
        power_limit_watts=(None if limit is None or gpu.card.is_asleep() else limit.read() or None),
    )


open_amd = partial(open_gpus, vendor=AMD_GPUS)
open_intel = partial(open_gpus, vendor=INTEL_GPUS)

AMD, INTEL = (
    Vendor(
        vendor.name,
        vendor.drivers[-1],
        may_block=True,
        probe=partial(probe, vendor=vendor),
        open=partial(open_gpus, vendor=vendor),
    )
    for vendor in SYSFS_VENDORS
)
