"""Which GPU each number in the metrics' keys stands for, as JSON that fits into a tag."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.log.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.accelerators.inventory import Device

    Described: TypeAlias = "dict[str, dict[str, Any]]"

_MAX_FIELD_LENGTH = 200  # far above any name that a driver gives


def describe_devices(devices: Sequence[Device]) -> str:
    """JSON by the GPUs' numbers, what is the same for all of several once under `all`.

        {"all":{"name":"Tesla T4","memory_gb":16.11},"0":{"uuid":"GPU-…","pci":"1b:00.0"},"1":…}

    Where it is too long for a tag, the GPUs with the highest numbers are left out. Empty where no
    device has more than a name.
    """
    if not any(device.uuid or device.pci_id for device in devices):
        return ""
    described = {str(device.index): _describe(device) for device in devices}
    while len(text := _as_json(described)) > MAX_TAG_LENGTH:
        described.popitem()
    return text


def _describe(device: Device) -> dict[str, Any]:
    values = {
        "uuid": _legible(device.uuid),
        "name": _legible(device.name),
        "pci": _short_pci_id(device.pci_id),
        "memory_gb": round(device.memory_bytes / 1e9, 2) if device.memory_bytes else None,
        "compute_capability": device.compute_capability,
        "power_limit_watts": device.power_limit_watts,
        "mig": {str(one.number): _legible(one.profile) for one in device.mig_instances} or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _legible(text: str | None) -> str | None:
    return clean(text, _MAX_FIELD_LENGTH) if text else None


def _short_pci_id(pci_id: str | None) -> str | None:
    """As `lspci` shows it: `00000000:1B:00.0` is `1b:00.0`; only a domain other than 0 is shown."""
    if pci_id is None:
        return None
    domain, _, place = pci_id.lower().partition(":")
    number = domain.lstrip("0")
    return _legible(f"{number.zfill(4)}:{place}" if number else place)


def _as_json(described: Described) -> str:
    first, *others = described.values() or [{}]
    shared = {
        key: value
        for key, value in first.items()
        if others and all(other.get(key) == value for other in others)
    }
    rest = {
        index: {key: value for key, value in values.items() if key not in shared}
        for index, values in described.items()
    }
    return json.dumps(({"all": shared} if shared else {}) | rest, separators=(",", ":"))
