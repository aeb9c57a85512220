"""`Win32_VideoController`, which names the display adapters of a Windows machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
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


def read_win32_video(host: Host) -> Inventory:
    """The display adapters that are GPUs.

    Raises:
        Unavailable: PowerShell failed or took too long.
        ParseError: What it printed is no such list.
    """
    return parse_win32_video(host.run(_COMMAND))


def parse_win32_video(text: str) -> Inventory:
    """One adapter as an object, several as a list, none as nothing at all.

        {"Name": "NVIDIA RTX A4000", "AdapterRAM": 4293918720, "DriverVersion": "31.0.15.3699"}

    `AdapterRAM` has 32 bits and ends at 4 GB: memory is left out rather than wrong.

    Raises:
        ParseError: It is no such JSON.
    """
    if not text.strip():
        return Inventory(driver=None, cuda=None, devices=())
    try:
        told = json.loads(text)
        adapters = [told] if isinstance(told, dict) else told
        cards = [adapter for adapter in adapters if _is_gpu(adapter["Name"].strip())]
        names = [" ".join(card["Name"].split()) for card in cards]
        drivers = {str(card["DriverVersion"]) for card in cards if card.get("DriverVersion")}
    # RecursionError: JSON nested too deep
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ParseError("a list of Win32_VideoController", text) from error
    return Inventory(
        driver=drivers.pop() if len(drivers) == 1 else None,
        cuda=None,
        devices=tuple(Device(index, name, None, None) for index, name in enumerate(names)),
    )


def _is_gpu(name: str) -> bool:
    return bool(name) and name not in _NO_GPUS
