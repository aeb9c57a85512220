"""The host's GPUs: how many, which, and what the driver supports."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.amd import amdgpu
from mlflow_sysmetrics.accelerators.amd.amdgpu import read_amdgpu_version
from mlflow_sysmetrics.accelerators.apple.ioreg import check_ioreg
from mlflow_sysmetrics.accelerators.apple.system_profiler import read_system_profiler
from mlflow_sysmetrics.accelerators.description import describe_devices
from mlflow_sysmetrics.accelerators.hardware import AMD, INTEL, has_nvidia_hardware
from mlflow_sysmetrics.accelerators.intel import intel_gpu
from mlflow_sysmetrics.accelerators.inventory import Inventory
from mlflow_sysmetrics.accelerators.neuron.monitor import check_neuron_monitor
from mlflow_sysmetrics.accelerators.nvidia.inventory import read_inventory
from mlflow_sysmetrics.accelerators.nvidia.nvml import NoPynvml, open_nvml
from mlflow_sysmetrics.accelerators.nvidia.smi import read_nvidia_smi
from mlflow_sysmetrics.accelerators.run_gpus import check_nvml
from mlflow_sysmetrics.accelerators.sysfs import check_driven, check_sysfs_gpus, read_devices
from mlflow_sysmetrics.accelerators.tpu.metrics import open_tpu_metrics
from mlflow_sysmetrics.accelerators.windows.video import read_win32_video
from mlflow_sysmetrics.catalog.units import gigabytes
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlflow_sysmetrics.host.host import Host


def _check_nvml(host: Host) -> tuple[str, ...]:
    """See whether NVML has GPUs for this run.

    Raises:
        Absent: There is no sign of a GPU of NVIDIA's.
        Unavailable: It has none.
    """
    try:
        return check_nvml(host)
    except Unavailable as reason:
        if host.system == "Windows":
            raise _why_on_windows(host, reason) from reason
        raise


def _why_on_windows(host: Host, without_nvml: Unavailable) -> Unavailable:
    """Why Windows reports no figures: by which adapters it lists."""
    try:
        names = [device.name for device in read_win32_video(host).devices]
    except (Unavailable, ParseError):  # `read_gpu` says so
        return without_nvml
    if any("NVIDIA" in name for name in names):
        return Unavailable(str(without_nvml))
    others = [name for name in names if _VENDORS_ON_WINDOWS.search(name)]
    if not others:
        return Absent("no GPU")
    return Unavailable(
        f"on Windows only NVIDIA's driver reports figures, not that of {describe_models(others)}"
    )


def _check_sysfs(
    host: Host, drivers: tuple[str, ...], vendor: str | None = None, of_vendor: Sequence[str] = ()
) -> tuple[str, ...]:
    """See whether Linux has GPUs of some drivers, or GPUs of a vendor without one."""
    try:
        return check_sysfs_gpus(host, drivers)
    except Absent:
        if vendor is not None:
            check_driven(host, vendor, of_vendor or drivers)
        raise


def _check(source: Callable[[Host], object], host: Host) -> tuple[str, ...]:
    """See whether a source is there, which has nothing to say on single devices."""
    source(host)
    return ()


METRIC_SOURCES: tuple[tuple[str, str, Callable[[Host], tuple[str, ...]]], ...] = (
    ("nvml", "nvidia", _check_nvml),
    ("amdgpu", "amd", partial(_check_sysfs, drivers=(amdgpu.DRIVER,), vendor=AMD)),
    ("xe", "intel", partial(_check_sysfs, drivers=("xe",))),
    (
        "i915",
        "intel",
        partial(_check_sysfs, drivers=("i915",), vendor=INTEL, of_vendor=intel_gpu.DRIVERS),
    ),
    ("ioreg", "apple", check_ioreg),
    ("libtpu", "tpu", partial(_check, open_tpu_metrics)),
    ("neuron-monitor", "neuron", partial(_check, check_neuron_monitor)),
)
"""Each source of GPU metrics, its collector, and what says which devices it lacks, and why.

That raises `Unavailable` where the source has none for this run, `Absent` where there is no such
hardware.
"""

_VENDORS_ON_WINDOWS = re.compile(r"AMD|Radeon|Intel|Qualcomm")


class GpusNotToldError(Exception):
    """There may be GPUs, but what should name them does not."""


def read_gpu(host: Host) -> dict[str, str]:
    """Models, number, memory, driver and CUDA version, and what each GPU is.

    On Linux and Windows NVML reports. Without it, `nvidia-smi` does on Linux, and the system's own
    list of adapters on Windows, as on macOS. GPUs of AMD and Intel are reported by Linux's kernel.

    Raises:
        Unavailable: There is a GPU that nothing can be asked of; `sys.gpu_metrics` says why.
        GpusNotToldError: A tool that is there fails, so that nothing can be said.
        ParseError: It prints what it should not.
    """
    if host.system == "Darwin":
        return gpu_tags(_ask(read_system_profiler, host))
    from_sysfs = read_devices(host)
    try:
        inventory = _ask_nvml(host)
    except Unavailable as without_nvml:
        try:
            inventory = _ask_others(host, without_nvml)
        except Unavailable:
            if not from_sysfs:
                raise
            inventory = Inventory(driver=None, cuda=None, devices=())
    if not (inventory.devices or from_sysfs):
        check_driven(host, AMD, (amdgpu.DRIVER,))
        check_driven(host, INTEL, intel_gpu.DRIVERS)
    return gpu_tags(
        replace(
            inventory,
            driver=inventory.driver or read_amdgpu_version(host),
            devices=inventory.devices + from_sysfs,
        )
    )


def gpu_tags(inventory: Inventory) -> dict[str, str]:
    """The tags of an inventory; what it does not have becomes none."""
    devices = inventory.devices
    if not devices:
        return {"sys.gpu": "None"}
    sizes = [device.memory_bytes for device in devices if device.memory_bytes]
    return {
        "sys.gpu": describe_models(device.name for device in devices),
        "sys.gpu_count": str(len(devices)),
        "sys.gpu_memory_gb": gigabytes(sum(sizes)) if len(sizes) == len(devices) else "",
        "sys.gpu_driver": inventory.driver or "",
        "sys.cuda": inventory.cuda or "",
        "sys.gpu_devices": describe_devices(devices),
    }


def read_gpu_metrics(host: Host) -> dict[str, str]:
    """Where the run's GPU metrics come from, and why not from elsewhere, too.

    No tag where there is no such hardware at all.
    """
    names: list[str] = []
    reasons: list[str] = []
    for name, _, check in METRIC_SOURCES:
        try:
            reasons += check(host)
            names.append(name)
        except Absent:
            continue
        except Unavailable as reason:
            reasons.append(f"{name}: {reason}")
    if names:
        return {"sys.gpu_metrics": "; ".join([",".join(names), *reasons])}
    return {"sys.gpu_metrics": f"unavailable: {'; '.join(reasons)}" if reasons else ""}


def why_no_gpu_metrics(host: Host) -> dict[str, str]:
    """Why hardware that is there reports nothing, by the name of its collector."""
    reasons: dict[str, str] = {}
    reporting = set()
    for _, collector, check in METRIC_SOURCES:
        try:
            check(host)
            reporting.add(collector)
        except Absent:
            continue
        except Unavailable as reason:
            reasons.setdefault(collector, str(reason))
    return {name: reason for name, reason in reasons.items() if name not in reporting}


def describe_models(names: Iterable[str]) -> str:
    """`8 x NVIDIA H100 80GB HBM3`, or `2 x NVIDIA A100, Tesla T4` by the first of each model."""
    counts = Counter(names)
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


def _ask_nvml(host: Host) -> Inventory:
    nvml = open_nvml(host)
    try:
        return read_inventory(nvml)
    finally:
        nvml.close()


def _ask_others(host: Host, without_nvml: Unavailable) -> Inventory:
    """The GPUs where NVML cannot be asked.

    Raises:
        Unavailable: There is one of NVIDIA's that nothing can be asked of; the tag
            `sys.gpu_metrics` says why.
        GpusNotToldError: It is not known whether there is one.
    """
    if host.system == "Windows":
        return _ask(read_win32_video, host)
    is_there = not isinstance(without_nvml, Absent) or has_nvidia_hardware(host)
    if host.has_command("nvidia-smi"):
        try:
            return _ask(read_nvidia_smi, host)
        except (GpusNotToldError, ParseError) as silence:
            if is_there:
                raise without_nvml from silence
            was_looked_at = (host.sysfs / "bus/pci/devices").exists()
            if isinstance(without_nvml, NoPynvml) or not was_looked_at:
                raise
    elif is_there:
        raise without_nvml
    return Inventory(driver=None, cuda=None, devices=())


def _ask(tool: Callable[[Host], Inventory], host: Host) -> Inventory:
    """Ask a tool that should be there: its silence is a failure and does not mean "none"."""
    try:
        return tool(host)
    except Unavailable as silence:
        raise GpusNotToldError(str(silence)) from silence
