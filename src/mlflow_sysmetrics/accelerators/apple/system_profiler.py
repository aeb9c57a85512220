"""`system_profiler`, which knows the GPUs of a Mac."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_COMMAND = ("system_profiler", "SPDisplaysDataType", "-json")

_SIZE = re.compile(r"([0-9]{1,9}) (MB|GB)")
_UNIT_BYTES = {"MB": 1 << 20, "GB": 1 << 30}  # its megabytes are binary


def read_system_profiler(host: Host) -> Inventory:
    """The GPUs of a Mac.

    Raises:
        Unavailable: The command failed or took too long.
        ParseError: What it printed is no report on displays.
    """
    return parse_system_profiler(host.run(_COMMAND))


def parse_system_profiler(text: str) -> Inventory:
    """GPUs from the report on displays.

        {"SPDisplaysDataType": [{"_name": "kHW_AMDRadeonPro5500MItem",
          "sppci_model": "AMD Radeon Pro 5500M", "spdisplays_vram": "4 GB", …}]}

    A GPU that shares the host's memory, as Apple's do, has no `spdisplays_vram`. A virtual
    machine's plain frame buffer has no `sppci_model`, and counts for no GPU.

    Raises:
        ParseError: It is no such JSON.
    """
    try:
        entries = json.loads(text)["SPDisplaysDataType"]
        cards = [entry for entry in entries if entry.get("sppci_model")]
        devices = tuple(
            Device(index, str(card["sppci_model"]), _bytes(card.get("spdisplays_vram")), uuid=None)
            for index, card in enumerate(cards)
        )
    # RecursionError: JSON nested too deep
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ParseError("system_profiler's report on displays", text) from error
    return Inventory(driver=None, cuda=None, devices=devices)


def _bytes(size: object) -> int | None:
    match = _SIZE.fullmatch(str(size))
    return int(match.group(1)) * _UNIT_BYTES[match.group(2)] if match else None
