"""What GPUs there are, whoever reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Address(NamedTuple):
    """A GPU, or one MIG instance of it.

    Attributes:
        gpu: Number of the GPU, as `nvidia-smi` shows it.
        instance: Number of the instance on it; None for all of the GPU.
    """

    gpu: int
    instance: int | None = None


@dataclass(frozen=True)
class MigInstance:
    """One part of a GPU in MIG mode.

    Attributes:
        number: Its number on the GPU, as `nvidia-smi` shows it.
        uuid: `MIG-…`; None where the driver does not report it.
        profile: Its size, `1g.10gb`; None where the driver does not report it.
        gpu_instance: The part of the GPU's memory that it is in, perhaps with others; None where
            the driver does not report it.
        compute_instance: Its number in there; None where the driver does not report it.
    """

    number: int
    uuid: str | None
    profile: str | None
    gpu_instance: int | None = None
    compute_instance: int | None = None

    @property
    def memory(self) -> tuple[int | None, int | None]:
        """The same for two that share their memory."""
        return self.gpu_instance, self.number if self.gpu_instance is None else None


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        index: Its number, as `nvidia-smi` shows it; those of other makers are numbered on.
        name: Model; `NVIDIA GPU` where the driver does not report it.
        memory_bytes: Memory size; None where it has none of its own (GB10, Jetson).
        uuid: `GPU-…`; None where the driver does not report it.
        pci_id: Where it is on the PCI bus, `00000000:1B:00.0`; None where it is not reported.
        compute_capability: `9.0`; None where it is not reported.
        power_limit_watts: The power limit in force; None where it is not reported.
        in_mig_mode: Whether it is cut into instances.
        mig_instances: These instances.
    """

    index: int
    name: str
    memory_bytes: int | None
    uuid: str | None
    pci_id: str | None = None
    compute_capability: str | None = None
    power_limit_watts: float | None = None
    in_mig_mode: bool = False
    mig_instances: tuple[MigInstance, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """The driver and its GPUs.

    Attributes:
        driver: Version of the driver, `560.35.03`; None where it is not reported.
        cuda: Newest CUDA version that the driver supports, `12.6`; None where it is not reported.
        devices: All GPUs that the driver shows this process, by index.
    """

    driver: str | None = None
    cuda: str | None = None
    devices: tuple[Device, ...] = ()


NO_GPUS = Inventory()
"""Of a host, or a vendor, without any."""
