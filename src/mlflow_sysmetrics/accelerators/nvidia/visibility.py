"""Which of a host's NVIDIA GPUs a process is given, by CUDA's and the container's variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.inventory import Address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow_sysmetrics.accelerators.inventory import Device, Inventory

CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"
CONTAINER_VARIABLE = "NVIDIA_VISIBLE_DEVICES"

_ORDINAL = re.compile(r"[0-9]{1,9}")
_MIG_OF_GPU = re.compile(r"([0-9]{1,9})(:[0-9]{1,9})?")

_TAKES_SEVERAL_INSTANCES = 570
"""The first driver with which one process can use several MIG instances (MIG User Guide)."""


def visible_devices(environ: Mapping[str, str], inventory: Inventory) -> list[Address]:
    """What CUDA gives a process with this environment, in CUDA's order."""
    devices = inventory.devices
    chosen = environ.get(CUDA_VARIABLE)
    if chosen is not None:
        addresses = parse_cuda_visible_devices(chosen, devices)
    else:
        addresses = parse_nvidia_visible_devices(environ.get(CONTAINER_VARIABLE, ""), devices)
    usable = _one_in_each_memory(addresses, devices)
    release = (inventory.driver or "").partition(".")[0]
    if release.isdecimal() and int(release) < _TAKES_SEVERAL_INSTANCES:
        return [address for address in usable if address.instance is not None][:1] or usable
    return usable


def _one_in_each_memory(addresses: Sequence[Address], devices: Sequence[Device]) -> list[Address]:
    """GPUs, and of those in MIG mode the first of the instances that share their memory."""
    by_index = {device.index: device for device in devices}
    usable: dict[object, Address] = {}
    for address in addresses:
        instances = by_index[address.gpu].mig_instances
        if not instances:
            usable[address] = address
        for one in instances:
            if address.instance in (None, one.number):
                usable.setdefault((address.gpu, one.memory), Address(address.gpu, one.number))
    return list(usable.values())


def order_is_uncertain(environ: Mapping[str, str], devices: Sequence[Device]) -> bool:
    """Whether CUDA may count the GPUs in another order than `nvidia-smi`.

    By default CUDA puts the fastest model first, so a number in its variable does not say which
    GPU it stands for.
    """
    return (
        environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
        and _ORDINAL.match(environ.get(CUDA_VARIABLE, "").strip()) is not None
        and len({device.name for device in devices}) > 1
    )


def parse_cuda_visible_devices(text: str, devices: Sequence[Device]) -> list[Address]:
    """Parse CUDA_VISIBLE_DEVICES as CUDA does: the first entry decides the form of all.

        0,2
        GPU-8932f937,GPU-a2a1e4c5-0b6f-4c2e-8f4d-7a0f3f0f9c11
        MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f
        MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0

    The list ends before the first entry that is no device; a device that is there twice makes
    it empty.
    """
    entries = [entry.strip() for entry in text.split(",")]
    by_name = entries[0].startswith(("GPU-", "MIG-"))
    addresses: list[Address] = []
    for entry in entries:
        address = _named(entry, devices) if by_name else _numbered(entry, devices)
        if address is None:
            break
        if address in addresses:
            return []
        addresses.append(address)
    return addresses


def parse_nvidia_visible_devices(text: str, devices: Sequence[Device]) -> list[Address]:
    """Parse NVIDIA_VISIBLE_DEVICES, by which a container asks for GPUs.

        all
        GPU-8932f937-d72c-4106-c12f-20bd9faed9f6
        0,1:0

    The container's runtime has read it before us: mostly the driver shows no other GPUs. Only a
    privileged container sees all of the host's. Numbers are the host's, so they mean something
    only there. `void`, paths and invalid values mean "no restriction".
    """
    entries = [entry.strip() for entry in text.split(",")]
    everything = [Address(device.index) for device in devices]
    if entries == ["none"]:
        return []
    if _MIG_OF_GPU.match(entries[0]) and len(entries) >= len(devices):
        return everything
    addresses = [
        address for entry in entries if (address := _of_container(entry, devices)) is not None
    ]
    return list(dict.fromkeys(addresses)) or everything


def _of_container(entry: str, devices: Sequence[Device]) -> Address | None:
    match = _MIG_OF_GPU.fullmatch(entry)
    if match is not None:
        return _numbered(match[1], devices)
    return _named(entry, devices) if entry.startswith(("GPU-", "MIG-")) else None


def _numbered(entry: str, devices: Sequence[Device]) -> Address | None:
    """By number; as in CUDA, what follows the digits does not matter."""
    match = _ORDINAL.match(entry)
    if match is None or int(match[0]) >= len(devices):
        return None
    return Address(devices[int(match[0])].index)


def _named(entry: str, devices: Sequence[Device]) -> Address | None:
    """By UUID, or by the beginning of one that no other has."""
    fits = {address for uuid, address in _uuids(devices) if uuid.startswith(entry)}
    return fits.pop() if len(fits) == 1 else None


def _uuids(devices: Sequence[Device]) -> Iterator[tuple[str, Address]]:
    for device in devices:
        if device.uuid:
            yield device.uuid, Address(device.index)
        for instance in device.mig_instances:
            if instance.uuid:
                yield instance.uuid, Address(device.index, instance.number)
            # As drivers before R470 name it, and later ones still understand.
            older = f"MIG-{device.uuid}/{instance.gpu_instance}/{instance.compute_instance}"
            yield older, Address(device.index, instance.number)
