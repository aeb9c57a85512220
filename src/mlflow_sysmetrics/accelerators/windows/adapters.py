"""`Win32_VideoController`: the display adapters of a Windows machine, where NVML has none."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.contract import Found
from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_COMMAND = (
    "powershell",
    "-NoProfile",
    "-NonInteractive",
    "-Command",
    (
        "Get-CimInstance Win32_VideoController"
        " | Select-Object Name,AdapterRAM,DriverVersion | ConvertTo-Json"
    ),
)

_NO_GPUS = frozenset(
    (
        "Microsoft Basic Display Adapter",  # what stands in while there is no driver
        "Microsoft Basic Render Driver",
        "Microsoft Hyper-V Video",
        "Microsoft Remote Display Adapter",
    )
)


_VENDORS = re.compile(r"AMD|Radeon|Intel|Qualcomm")


def list_adapters(host: Host, without_nvml: Unavailable) -> Found:
    """The display adapters that are GPUs, none of which reports metrics.

    Args:
        host: A Windows machine.
        without_nvml: Why NVML cannot be used.
    """
    try:
        inventory = parse_win32_video(host.run(_COMMAND))
    except (Unavailable, ParseError) as failure:
        return Found(None, without_nvml, list_failure=str(failure))
    names = [device.name for device in inventory.devices]
    others = [name for name in names if _VENDORS.search(name)]
    silence: Unavailable = Absent("no GPU")
    if any("NVIDIA" in name for name in names):
        silence = Unavailable(str(without_nvml))
    elif others:
        silence = Unavailable(
            "on Windows only NVIDIA's driver reports figures, not that of "
            + ", ".join(dict.fromkeys(others))
        )
    return Found(inventory, silence)


def parse_win32_video(text: str) -> Inventory:
    """One adapter as an object, several as a list, none as nothing at all.

        {"Name": "NVIDIA RTX A4000", "AdapterRAM": 4293918720, "DriverVersion": "31.0.15.3699"}

    `AdapterRAM` has 32 bits and ends at 4 GB: memory is left out rather than wrong.

    Raises:
        ParseError: It is no such JSON.
    """
    if not text.strip():
        return Inventory()
    try:
        listed = json.loads(text)
        adapters = [listed] if isinstance(listed, dict) else listed
        cards = [adapter for adapter in adapters if _is_gpu(adapter["Name"].strip())]
        names = [" ".join(card["Name"].split()) for card in cards]
        drivers = {str(card["DriverVersion"]) for card in cards if card.get("DriverVersion")}
    # RecursionError: JSON nested too deep
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ParseError("a list of Win32_VideoController", text) from error
    return Inventory(
        driver=drivers.pop() if len(drivers) == 1 else None,
        devices=tuple(Device(index, name, None, None) for index, name in enumerate(names)),
    )


def _is_gpu(name: str) -> bool:
    return bool(name) and name not in _NO_GPUS
