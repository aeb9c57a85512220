"""NVIDIA: what NVML finds on a host, or `nvidia-smi` and Windows where it finds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.contract import Found, Vendor
from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.accelerators.nvidia.inventory import read_inventory
from mlflow_sysmetrics.accelerators.nvidia.opening import NoPynvml, open_nvml
from mlflow_sysmetrics.accelerators.nvidia.selection import select_gpus
from mlflow_sysmetrics.accelerators.nvidia.silence import WITHOUT_INSTANCE, why_silent
from mlflow_sysmetrics.accelerators.nvidia.smi import read_nvidia_smi
from mlflow_sysmetrics.accelerators.reasons import check_silent, group_by_reason
from mlflow_sysmetrics.accelerators.windows.adapters import list_adapters
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.accelerators.inventory import Inventory
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml
    from mlflow_sysmetrics.host.host import Host


def probe(host: Host) -> Found:
    """What NVML lists and reports; without it, what others list.

    Raises:
        Absent: There is no sign of a GPU of NVIDIA's.
        Unavailable: There is a GPU that nothing can be asked of.
    """
    if host.system == "Darwin":
        raise Absent("macOS has no NVIDIA driver")
    try:
        nvml = open_nvml(host)
    except Unavailable as reason:
        return _probe_without_nvml(host, reason)
    try:
        inventory = read_inventory(nvml)
        try:
            return Found(inventory, notes=_what_is_missing(host, nvml, inventory))
        except Unavailable as reason:
            return Found(inventory, reason)
    finally:
        nvml.close()


def _what_is_missing(host: Host, nvml: Nvml, inventory: Inventory) -> tuple[str, ...]:
    """Which of the run's GPUs report nothing, and why.

    Raises:
        Unavailable: None is the run's, or none reports; the message says why.
    """
    devices = select_gpus(host, inventory).devices
    reasons = {device.index: why_silent(nvml, device) for device in devices}
    without_instance = [
        (device.index, WITHOUT_INSTANCE)
        for device in devices
        if device.in_mig_mode and not device.mig_instances and not reasons[device.index]
    ]
    count = len(inventory.devices)
    return (*check_silent(reasons, count), *group_by_reason(without_instance, count))


def _probe_without_nvml(host: Host, reason: Unavailable) -> Found:
    if host.system == "Windows":
        return list_adapters(host, reason)
    if not host.has_command("nvidia-smi"):
        raise reason
    try:
        return Found(read_nvidia_smi(host), reason)
    except (Unavailable, ParseError) as failure:
        bus_is_readable = (host.sysfs / "bus/pci/devices").exists()
        is_unknown = isinstance(reason, NoPynvml) or not bus_is_readable
        if isinstance(reason, Absent) and is_unknown:
            return Found(None, reason, list_failure=str(failure))
        raise reason from failure


NVIDIA = Vendor("nvidia", "nvml", may_block=True, probe=probe, open=open_nvidia)
