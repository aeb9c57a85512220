"""Which of the host's NVIDIA GPUs are the run's, by MLFLOW_SYSMETRICS_GPUS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.nvidia.visibility import (
    CONTAINER_VARIABLE,
    CUDA_VARIABLE,
    order_is_uncertain,
    visible_devices,
)
from mlflow_sysmetrics.host.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.accelerators.inventory import Address, Device, Inventory
    from mlflow_sysmetrics.host.host import Host

_UNCERTAIN_ORDER = (
    f"{CUDA_VARIABLE} numbers GPUs of different models: CUDA may count them in another order than "
    "nvidia-smi; set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by UUID"
)


@dataclass(frozen=True)
class Selection:
    """The GPUs of the run.

    Attributes:
        devices: The GPUs, by their number; of one in MIG mode, the instances that are the run's.
        only_if_used: Whether a GPU is the run's only once one of its processes was seen there.
        visible: The GPUs and instances that CUDA gives this process.
        notes: What is good to know about the choice.
    """

    devices: tuple[Device, ...]
    only_if_used: bool = False
    visible: tuple[Address, ...] = ()
    notes: tuple[str, ...] = ()


def select_gpus(host: Host, inventory: Inventory, *, processes_known: bool = True) -> Selection:
    """The GPUs of the run; with `used`, all GPUs, since any may be used later.

    Args:
        host: Its settings and environment choose.
        inventory: All that the driver shows.
        processes_known: Whether the run's processes can be identified; if not, `used` falls back
            to `visible`.

    Raises:
        Unavailable: None is for this process; the message says why.
    """
    setting = host.settings.gpus
    if setting == "used" and not processes_known:
        setting = "visible"
    if setting == "all":
        return Selection(inventory.devices)
    visible = tuple(visible_devices(host.environ, inventory))
    if setting == "visible" and not visible:
        name = CUDA_VARIABLE if CUDA_VARIABLE in host.environ else CONTAINER_VARIABLE
        raise Unavailable(f"{name}={host.environ[name]!r} gives this process no GPU")
    is_uncertain = setting == "visible" and order_is_uncertain(host.environ, inventory.devices)
    notes = (_UNCERTAIN_ORDER,) if is_uncertain else ()
    if setting == "used" or (is_uncertain and processes_known):
        return Selection(inventory.devices, only_if_used=True, visible=visible, notes=notes)
    return Selection(_at(inventory.devices, visible), notes=notes)


def _at(devices: Sequence[Device], addresses: Sequence[Address]) -> tuple[Device, ...]:
    """The devices at these addresses, with those of their instances that are among them."""
    chosen = []
    for device in devices:
        named = {address.instance for address in addresses if address.gpu == device.index}
        if None in named:
            chosen.append(device)
        elif named:
            instances = tuple(one for one in device.mig_instances if one.number in named)
            chosen.append(replace(device, mig_instances=instances))
    return tuple(chosen)
