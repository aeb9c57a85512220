"""The host's GPUs as tags: which there are, and where their metrics come from."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.contract import Found
from mlflow_sysmetrics.accelerators.description import describe_devices
from mlflow_sysmetrics.accelerators.inventory import Inventory
from mlflow_sysmetrics.accelerators.vendors import VENDORS
from mlflow_sysmetrics.catalog.units import gigabytes
from mlflow_sysmetrics.host.errors import Absent, Transient, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_sysmetrics.accelerators.contract import Vendor
    from mlflow_sysmetrics.host.host import Host

    Survey = Mapping[Vendor, Found]


class GpusUnknownError(Exception):
    """Whether there are GPUs is not known: what should list them fails.

    Attributes:
        tags: What is known all the same.
        is_final: Whether asking again would give nothing new.
    """

    def __init__(self, reason: str, *, is_final: bool = True) -> None:
        super().__init__(reason)
        self.tags: dict[str, str] = {}
        self.is_final = is_final


def survey(host: Host) -> Survey:
    """Ask each vendor once what it has on this host; those without hardware are left out."""
    results = {}
    for vendor in VENDORS:
        try:
            results[vendor] = vendor.probe(host)
        except Absent:
            continue
        except Unavailable as reason:
            results[vendor] = Found(inventory=None, silence=reason)
    return results


def read_gpus(host: Host) -> dict[str, str]:
    """All tags on GPUs, from one survey.

    Raises:
        GpusUnknownError: A tool that should list GPUs fails; it has the tags that are known.
    """
    found = survey(host)
    metrics = _metrics_tag(found)
    try:
        return _inventory_tags(found) | metrics
    except GpusUnknownError as error:
        error.tags = metrics
        raise


def read_gpu(host: Host) -> dict[str, str]:
    """Models, number, memory, driver and CUDA version, and what each GPU is.

    Raises:
        GpusUnknownError: A tool that should list GPUs fails.
    """
    return _inventory_tags(survey(host))


def read_gpu_metrics(host: Host) -> dict[str, str]:
    """Where the run's GPU metrics come from, and why not from elsewhere, too."""
    return _metrics_tag(survey(host))


def why_no_gpu_metrics(host: Host) -> dict[str, str]:
    """Why hardware that is there reports nothing, by the name of its collector."""
    return {
        vendor.name: str(found.silence)
        for vendor, found in survey(host).items()
        if found.silence is not None and not isinstance(found.silence, Absent)
    }


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


def describe_models(names: Iterable[str]) -> str:
    """`8 x NVIDIA H100 80GB HBM3`, or `2 x NVIDIA A100, Tesla T4` by the first of each model."""
    counts = Counter(names)
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


def _inventory_tags(found: Survey) -> dict[str, str]:
    """No tag where a GPU is there that cannot be listed; the tag `sys.gpu_metrics` says why."""
    for result in found.values():
        if result.list_failure:
            raise GpusUnknownError(result.list_failure)
    inventories = [result.inventory for result in found.values() if result.inventory is not None]
    whole = Inventory(
        next((one.driver for one in inventories if one.driver), None),
        next((one.cuda for one in inventories if one.cuda), None),
        tuple(device for one in inventories for device in one.devices),
    )
    unlisted = [result.silence for result in found.values() if result.inventory is None]
    if unlisted and not whole.devices:
        for reason in unlisted:
            if isinstance(reason, Transient):
                raise GpusUnknownError(str(reason), is_final=False)
        return {}
    return gpu_tags(whole)


def _metrics_tag(found: Survey) -> dict[str, str]:
    """Sources, then what is missing; empty where there is no such hardware at all."""
    sources: list[str] = []
    reasons: list[str] = []
    for vendor, result in found.items():
        source = result.source or vendor.source
        if result.silence is None:
            sources.append(source)
            reasons += result.notes
        elif not isinstance(result.silence, Absent):
            reasons.append(f"{source}: {result.silence}")
    if sources:
        return {"sys.gpu_metrics": "; ".join([",".join(sources), *reasons])}
    return {"sys.gpu_metrics": f"unavailable: {'; '.join(reasons)}" if reasons else ""}
