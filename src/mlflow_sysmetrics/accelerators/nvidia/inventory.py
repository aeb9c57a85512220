"""What NVML reports of the driver and its GPUs that does not change while a run lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.inventory import Address, Device, Inventory, MigInstance
from mlflow_sysmetrics.accelerators.nvidia.nvml import Call, NvmlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_sysmetrics.accelerators.nvidia.nvml import Nvml


def read_inventory(nvml: Nvml) -> Inventory:
    """The driver and its GPUs; what NVML does not report is None.

    Raises:
        Unavailable: NVML had to be opened again and could not be.
    """
    nvml.ensure_open()
    cuda = _ask(nvml.ask, "nvmlSystemGetCudaDriverVersion_v2")  # 12060 is 12.6
    return Inventory(
        driver=_text(_ask(nvml.ask, "nvmlSystemGetDriverVersion")),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        devices=tuple(_read_device(nvml, index) for index in range(nvml.device_count)),
    )


def _read_device(nvml: Nvml, index: int) -> Device:
    def ask(function: str) -> Any:  # noqa: ANN401 - as pynvml has it
        return _ask(nvml.call, Call(function), Address(index))

    memory = ask("nvmlDeviceGetMemoryInfo")
    pci = ask("nvmlDeviceGetPciInfo")
    capability = ask("nvmlDeviceGetCudaComputeCapability")
    limit_milliwatts = ask("nvmlDeviceGetEnforcedPowerLimit")
    mig_mode = ask("nvmlDeviceGetMigMode")
    in_mig_mode = bool(mig_mode and mig_mode[0])  # the mode now, and that after the next reset
    return Device(
        index=index,
        name=_text(ask("nvmlDeviceGetName")) or "NVIDIA GPU",
        memory_bytes=memory.total or None if memory is not None else None,
        uuid=_text(ask("nvmlDeviceGetUUID")),
        pci_id=_text(pci.busId) if pci is not None else None,
        compute_capability=".".join(map(str, capability))
        if capability and any(capability)
        else None,
        power_limit_watts=limit_milliwatts / 1e3 if limit_milliwatts else None,
        in_mig_mode=in_mig_mode,
        mig_instances=tuple(_read_mig_instances(nvml, index)) if in_mig_mode else (),
    )


def _read_mig_instances(nvml: Nvml, index: int) -> Iterator[MigInstance]:
    most = _ask(nvml.call, Call("nvmlDeviceGetMaxMigDeviceCount"), Address(index)) or 0
    for number in range(most):
        address = Address(index, number)
        try:
            nvml.handle(address)
        except NvmlError:  # not found: fewer than the most are made
            continue
        name = _text(_ask(nvml.call, Call("nvmlDeviceGetName"), address)) or ""
        yield MigInstance(
            number=number,
            uuid=_text(_ask(nvml.call, Call("nvmlDeviceGetUUID"), address)),
            profile=name.rpartition(" MIG ")[2] or None,  # NVIDIA H100 80GB HBM3 MIG 1g.10gb
            gpu_instance=_ask(nvml.call, Call("nvmlDeviceGetGpuInstanceId"), address),
            compute_instance=_ask(nvml.call, Call("nvmlDeviceGetComputeInstanceId"), address),
        )


def _ask(ask: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - as pynvml has it
    """What `ask` returns; None where NVML does not report it."""
    try:
        return ask(*arguments)
    except NvmlError:
        return None


def _text(text: str | bytes | None) -> str | None:
    """Text as str, which old pynvml gives as bytes; None where there is none."""
    return (text.decode(errors="replace") if isinstance(text, bytes) else text) or None
