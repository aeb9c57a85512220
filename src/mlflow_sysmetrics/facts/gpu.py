"""The host's GPUs: how many, which, and what the driver supports."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.facts.gpu_devices import describe_devices
from mlflow_sysmetrics.facts.units import gigabytes
from mlflow_sysmetrics.host import Absent, Transient, Unavailable
from mlflow_sysmetrics.sources.amdgpu import read_amdgpu_version
from mlflow_sysmetrics.sources.gpu_inventory import Inventory
from mlflow_sysmetrics.sources.ioreg import read_ioreg
from mlflow_sysmetrics.sources.neuron_monitor import check_neuron_monitor
from mlflow_sysmetrics.sources.nvidia_smi import read_nvidia_smi
from mlflow_sysmetrics.sources.nvml import open_nvml
from mlflow_sysmetrics.sources.nvml_inventory import read_inventory
from mlflow_sysmetrics.sources.run_gpus import check_nvml
from mlflow_sysmetrics.sources.sysfs_gpu import (
    check_sysfs_gpus,
    has_nvidia_device,
    read_devices,
)
from mlflow_sysmetrics.sources.system_profiler import read_system_profiler
from mlflow_sysmetrics.sources.tpu_metrics import open_tpu_metrics
from mlflow_sysmetrics.sources.win32_video import read_win32_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlflow_sysmetrics.host import Host


def _check_nvml(host: Host) -> None:
    """See whether NVML has GPUs for this run.

    Raises:
        Unavailable: It has none; `Absent` where Linux shows no device of NVIDIA's either.
    """
    try:
        check_nvml(host)
    except Unavailable as reason:
        if has_nvidia_device(host):
            raise
        raise Absent(str(reason)) from reason


METRIC_SOURCES: tuple[tuple[str, Callable[[Host], object]], ...] = (
    ("nvml", _check_nvml),
    ("amdgpu", partial(check_sysfs_gpus, drivers=("amdgpu",))),
    ("xe", partial(check_sysfs_gpus, drivers=("xe",))),
    ("i915", partial(check_sysfs_gpus, drivers=("i915",))),
    ("ioreg", read_ioreg),
    ("libtpu", open_tpu_metrics),
    ("neuron-monitor", check_neuron_monitor),
)
"""Name of each source of GPU metrics, and what raises `Unavailable` where it has none for us."""


class GpusNotToldError(Exception):
    """There may be GPUs, but what should name them does not."""


def read_gpu(host: Host) -> dict[str, str]:
    """Models, number, memory, driver and CUDA version, and what each GPU is.

    On Linux and Windows NVML reports. Without it, `nvidia-smi` does on Linux, and the system's own
    list of adapters on Windows, as on macOS. GPUs of AMD and Intel are reported by Linux's kernel.

    Raises:
        GpusNotToldError: A tool that is there fails, so that nothing can be said.
        ParseError: It prints what it should not.
    """
    if host.system == "Darwin":
        inventory = _ask(read_system_profiler, host)
    else:
        try:
            inventory = _ask_nvml(host)
        except Unavailable as without_nvml:
            inventory = _ask_others(host, without_nvml)
    return gpu_tags(_with_sysfs_gpus(inventory, host))


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

    Of hardware that is absent nothing is said, unless there is nothing else to say.

    Raises:
        Transient: A source cannot be looked for now.
    """
    names, absences = [], []
    reasons: dict[str, str] = {}
    for name, check in METRIC_SOURCES:
        try:
            check(host)
            names.append(name)
        except Transient:
            raise
        except Absent as absence:
            absences.append(str(absence))
        except Unavailable as reason:
            reasons[name] = str(reason)
    if names:
        said = [",".join(names), *(f"{name}: {reason}" for name, reason in reasons.items())]
        return {"sys.gpu_metrics": "; ".join(said)}
    return {"sys.gpu_metrics": f"unavailable: {'; '.join(reasons.values() or absences[:1])}"}


def describe_models(names: Iterable[str]) -> str:
    """`8 x NVIDIA H100 80GB HBM3`, or `2 x NVIDIA A100, Tesla T4` by the first of each model."""
    counts = Counter(names)
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


def _with_sysfs_gpus(inventory: Inventory, host: Host) -> Inventory:
    """Those of AMD and Intel too, which only Linux reports."""
    return replace(
        inventory,
        driver=inventory.driver or read_amdgpu_version(host),
        devices=inventory.devices + read_devices(host),
    )


def _ask_nvml(host: Host) -> Inventory:
    nvml = open_nvml(host)
    try:
        return read_inventory(nvml)
    finally:
        nvml.close()


def _ask_others(host: Host, without_nvml: Unavailable) -> Inventory:
    if host.system == "Windows":
        return _ask(read_win32_video, host)
    if host.has_command("nvidia-smi"):
        return _ask(read_nvidia_smi, host)
    if (host.root / "dev/nvidiactl").exists():
        raise GpusNotToldError(f"there is an NVIDIA driver, but {without_nvml}") from without_nvml
    return Inventory(driver=None, cuda=None, devices=())


def _ask(tool: Callable[[Host], Inventory], host: Host) -> Inventory:
    """Ask a tool that should be there: its silence is a failure and does not mean "none"."""
    try:
        return tool(host)
    except Unavailable as silence:
        raise GpusNotToldError(str(silence)) from silence
