"""Signs of an NVIDIA GPU that do not need NVML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.drm import is_there
from mlflow_sysmetrics.accelerators.hardware import NVIDIA, read_gpus
from mlflow_sysmetrics.host.files import find_paths

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_PLACES = ("proc/driver/nvidia", "dev/dxg")  # Windows shares its GPU with WSL as dxg
_DEVICE_FILES = ("nvidia[0-9]*", "nvidiactl", "nvhost-*", "nvgpu")  # the last two are Tegra's


def has_nvidia_hardware(host: Host) -> bool:
    """Whether Linux shows a GPU of NVIDIA's: on the PCI bus, by its driver, or as a device file."""
    paths = [host.root / place for place in _PLACES]
    paths += [path for name in _DEVICE_FILES for path in find_paths(host.root, f"dev/{name}")]
    return bool(read_gpus(host, NVIDIA)) or any(map(is_there, paths))
