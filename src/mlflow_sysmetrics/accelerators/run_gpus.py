"""The NVIDIA GPUs of this run: which of the host's they are, by MLFLOW_SYSMETRICS_GPUS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.nvidia.inventory import read_inventory
from mlflow_sysmetrics.accelerators.nvidia.nvml import open_nvml
from mlflow_sysmetrics.accelerators.nvidia.probe import WITHOUT_INSTANCE, why_silent
from mlflow_sysmetrics.accelerators.reasons import check_silent, say_of_each
from mlflow_sysmetrics.accelerators.visibility import (
    CONTAINER_VARIABLE,
    CUDA_VARIABLE,
    order_is_uncertain,
    visible_devices,
)
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.accelerators.inventory import Address, Device
    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml
    from mlflow_sysmetrics.host.host import Host

_UNCERTAIN_ORDER = (
    f"{CUDA_VARIABLE} numbers GPUs of different models: CUDA may count them in another order than "
    "nvidia-smi; set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by UUID"
)


@dataclass(frozen=True)
class RunGpus:
    """NVML, open, and the GPUs of the run.

    Attributes:
        nvml: Whoever opens this closes it.
        devices: The GPUs, by their number; of one in MIG mode, the instances that are the run's.
        only_if_used: Whether they are the run's only from when one of its processes is seen there.
        visible: Those, and instances, that CUDA gives this process.
        notes: What is good to know about the choice.
    """

    nvml: Nvml
    devices: tuple[Device, ...]
    only_if_used: bool = False
    visible: tuple[Address, ...] = ()
    notes: tuple[str, ...] = ()


def open_run_gpus(host: Host, whose: str, *, processes_are_told: bool = True) -> RunGpus:
    """Open NVML and find the GPUs.

    Args:
        host: The machine.
        whose: As MLFLOW_SYSMETRICS_GPUS has it; with `used` all are told, for any may come to be.
        processes_are_told: Whether the run's can be told from others; `used` is `visible` else.

    Raises:
        Unavailable: There is none, or none for this process; the message says why.
    """
    whose = "visible" if whose == "used" and not processes_are_told else whose
    nvml = open_nvml(host)
    try:
        inventory = read_inventory(nvml)
        if whose == "all":
            return RunGpus(nvml, inventory.devices)
        visible = tuple(visible_devices(host.environ, inventory))
        if whose == "visible":
            _check_that_there_is_one(host, visible)
        is_uncertain = whose == "visible" and order_is_uncertain(host.environ, inventory.devices)
        notes = (_UNCERTAIN_ORDER,) if is_uncertain else ()
        if whose == "used" or (is_uncertain and processes_are_told):
            return RunGpus(nvml, inventory.devices, only_if_used=True, visible=visible, notes=notes)
        return RunGpus(nvml, select(inventory.devices, visible), notes=notes)
    except BaseException:
        nvml.close()
        raise


def check_nvml(host: Host) -> tuple[str, ...]:
    """See whether there are GPUs for this run that report something to NVML.

    Returns:
        Which of them do not, and why.

    Raises:
        Absent: There is no sign of a GPU of NVIDIA's.
        Unavailable: There is none for this run, or none reports; the message says why.
    """
    found = open_run_gpus(host, Settings.from_env(host.environ).gpus)
    try:
        reasons = {device.index: why_silent(found.nvml, device) for device in found.devices}
        cut_up = [each for each in found.devices if each.in_mig_mode and not each.mig_instances]
        without_instance = [
            (each.index, WITHOUT_INSTANCE) for each in cut_up if not reasons[each.index]
        ]
        count = found.nvml.device_count
        return (*check_silent(reasons, count), *say_of_each(without_instance, count))
    finally:
        found.nvml.close()


def select(devices: Sequence[Device], addresses: Sequence[Address]) -> tuple[Device, ...]:
    """The devices at these addresses, each with those of its instances that are among them."""
    chosen = []
    for device in devices:
        named = {address.instance for address in addresses if address.gpu == device.index}
        if None in named:
            chosen.append(device)
        elif named:
            instances = tuple(each for each in device.mig_instances if each.number in named)
            chosen.append(replace(device, mig_instances=instances))
    return tuple(chosen)


def _check_that_there_is_one(host: Host, visible: Sequence[Address]) -> None:
    if not visible:
        name = CUDA_VARIABLE if CUDA_VARIABLE in host.environ else CONTAINER_VARIABLE
        raise Unavailable(f"{name}={host.environ[name]!r} gives this process no GPU")
