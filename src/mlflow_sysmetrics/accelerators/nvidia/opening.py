"""Opening NVML, and why it cannot be opened on a host that has an NVIDIA GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.drm import is_there
from mlflow_sysmetrics.accelerators.hardware import NVIDIA, read_gpus
from mlflow_sysmetrics.accelerators.nvidia.nvml import WHY_NOT_OPEN, Code, Nvml
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.host.files import find_paths

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"

_PLACES = ("proc/driver/nvidia", "dev/dxg")  # Windows shares its GPU with WSL as dxg
_DEVICE_FILES = ("nvidia[0-9]*", "nvidiactl", "nvhost-*", "nvgpu")  # the last two are Tegra's


class NoPynvml(Absent):
    """There is no sign of a GPU, but without pynvml NVML could not be asked."""


def open_nvml(host: Host) -> Nvml:
    """Open NVML.

    Raises:
        Absent: No pynvml or no driver, and Linux shows no GPU of NVIDIA's either.
        Transient: It may open later.
        Unavailable: No pynvml, no driver, no GPU, or no way to them; the message says which.
    """
    try:
        nvml = Nvml(host.load_nvml())
    except Unavailable as reason:
        if host.system == "Windows" or has_nvidia_hardware(host):
            raise
        raise NoPynvml(str(reason)) from reason
    try:
        nvml.ensure_open()
    except Absent as reason:
        if has_nvidia_hardware(host):
            raise Unavailable(_why_with_hardware(host, str(reason))) from reason
        raise
    return nvml


def _why_with_hardware(host: Host, reason: str) -> str:
    capabilities = host.environ.get(_CAPABILITIES)
    if reason != WHY_NOT_OPEN[Code.LIBRARY_NOT_FOUND]:
        return reason
    if capabilities and not {"all", "utility"} & set(capabilities.replace(" ", "").split(",")):
        return (
            f"no NVIDIA driver library, for {_CAPABILITIES}={capabilities} leaves it out of the "
            f"container; add utility: {_CAPABILITIES}={capabilities},utility"
        )
    if (host.root / "dev/dxg").exists():
        return (
            "no NVIDIA driver library in WSL; install NVIDIA's driver in Windows (GPUs of other "
            "vendors report nothing in WSL)"
        )
    return reason


def has_nvidia_hardware(host: Host) -> bool:
    """Whether Linux shows a GPU of NVIDIA's: on the PCI bus, by its driver, or as a device file."""
    paths = [host.root / place for place in _PLACES]
    paths += [path for name in _DEVICE_FILES for path in find_paths(host.root, f"dev/{name}")]
    return bool(read_gpus(host, NVIDIA)) or any(map(is_there, paths))
