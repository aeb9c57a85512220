"""Which accelerators Linux shows, with or without a driver.

Where a driver or its library fails, this tells a host that lacks something from one that has no
accelerator of that vendor.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.host.files import find_paths

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from mlflow_sysmetrics.host.host import Host

NVIDIA, AMD, INTEL, GOOGLE, AMAZON = "0x10de", "0x1002", "0x8086", "0x1ae0", "0x1d0f"
"""PCI vendors."""

_GPU_CLASSES = ("0x03", "0x12")  # display controllers, and processing accelerators as the MI300
INTEGRATED_AT = "0000:00:02.0"
"""Where Intel's CPUs have their GPU."""

_OLD_DRIVERS = frozenset(("radeon", "r128", "aty128fb"))  # a server's screen, or older than ROCm


class PciDevice(NamedTuple):
    """One device on the PCI bus.

    Attributes:
        address: Where it is, `0000:03:00.0`.
        device: Its model, `0x744c`.
        pci_class: What it is, `0x030000`.
        driver: What has it; empty where nothing has, or where that is not shown.
    """

    address: str
    device: str
    pci_class: str
    driver: str


def read_pci_devices(host: Host, vendor: str) -> Iterator[PciDevice]:
    """The PCI devices of a vendor, by their addresses; none outside Linux."""
    for folder in find_paths(host.sysfs, "bus/pci/devices/*") if host.system == "Linux" else ():
        if host.read_text_or_empty(folder / "vendor") != vendor:
            continue
        yield PciDevice(
            folder.name,
            host.read_text_or_empty(folder / "device"),
            host.read_text_or_empty(folder / "class"),
            _driver(host, folder),
        )


def _driver(host: Host, folder: Path) -> str:
    """By the link to the driver, or by `uevent` where there is no link to be seen."""
    with suppress(OSError):
        return (folder / "driver").readlink().name
    for line in host.read_text_or_empty(folder / "uevent").splitlines():
        if line.startswith("DRIVER="):
            return line.removeprefix("DRIVER=")
    return ""


def why_not_driven(host: Host, vendor: str, drivers: Collection[str]) -> str | None:
    """Why Linux lists no graphics card of a vendor whose GPUs are on the PCI bus.

    None where there are none. The GPU in an Intel CPU that has no driver counts only in a host
    that has no other.
    """
    gpus = [gpu for gpu in read_gpus(host, vendor) if gpu.driver not in _OLD_DRIVERS]
    if sum(len(read_gpus(host, maker)) for maker in (NVIDIA, AMD, INTEL)) > 1:
        gpus = [gpu for gpu in gpus if gpu.address != INTEGRATED_AT]
    if not gpus:
        return None
    gpu = gpus[0]
    model = f"the GPU {vendor[2:]}:{gpu.device[2:]} ({gpu.address})"
    if gpu.driver in drivers:
        return f"{model} has its driver, but cannot be read below /sys/class/drm"
    if gpu.driver.startswith("vfio"):
        return f"{model} is given to a virtual machine ({gpu.driver})"
    if gpu.driver:
        return f"{model} has the driver {gpu.driver}, which reports no figures"
    return f"{model} has no driver; load the kernel module {' or '.join(drivers)}"


def read_gpus(host: Host, vendor: str) -> list[PciDevice]:
    """The GPUs of a vendor on the PCI bus."""
    devices = read_pci_devices(host, vendor)
    return [device for device in devices if device.pci_class.startswith(_GPU_CLASSES)]
