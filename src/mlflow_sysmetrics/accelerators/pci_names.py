"""Names of PCI devices, from the databases that many distributions install."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_sysmetrics.accelerators.drm import Card
    from mlflow_sysmetrics.host.host import Host

_PCI_IDS = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")
_AMDGPU_IDS = ("usr/share/libdrm/amdgpu.ids", "opt/amdgpu/share/libdrm/amdgpu.ids")

_BRANDS = {"1002": "AMD", "8086": "Intel"}
_REVISION = re.compile(r"0x([0-9a-f]{2})")


def read_name(host: Host, card: Card) -> str:
    """The name of a card: as its maker sells it, of its chip, or at the least its PCI id.

    `AMD Radeon RX 7900 XTX` from AMD's list, which comes with libdrm and tells apart what differs
    by revision alone; `AMD Radeon RX 7900 XT/7900 XTX/7900M` from the list of all PCI devices;
    `AMD GPU 1002:744c` without either.
    """
    vendor, device = card.pci.pci_id.lower().split(":")
    brand = _BRANDS.get(vendor, "")
    amds_list = _read_first(host, _AMDGPU_IDS) if brand == "AMD" else ""
    name = (
        parse_amdgpu_ids(amds_list, device, _revision(host, card))
        or host.read_text_or_empty(card.device / "product_name")
        or parse_pci_ids(_read_first(host, _PCI_IDS), vendor, device)
        or f"GPU {vendor}:{device}"
    )
    return name if name.upper().startswith(brand.upper()) else f"{brand} {name}"


def parse_amdgpu_ids(text: str, device: str, revision: str) -> str | None:
    r"""The name of a device and revision, in AMD's list; None where it is not there.

        744C,\tC8,\tAMD Radeon RX 7900 XTX

    Letters may be of either case.
    """
    pattern = rf"^{device},[ \t]*{revision},[ \t]*(\S.*)$"
    match = re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
    return match[1].strip() if match else None


def parse_pci_ids(text: str, vendor: str, device: str) -> str | None:
    r"""The name of a device, in the list of all; None where it is not there.

        1002  Advanced Micro Devices, Inc. [AMD/ATI]
        \t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX/7900M]

    What stands in brackets is what the maker calls it.
    """
    of_vendor = re.search(rf"^{vendor}  .*\n((?:[\t#].*\n|\n)*)", f"{text}\n", re.MULTILINE)
    name = of_vendor and re.search(rf"^\t{device}  (.*\S)", of_vendor[1], re.MULTILINE)
    if not name:
        return None
    sold_as = re.search(r"\[(\S.*)\]$", name[1])
    return sold_as[1] if sold_as else name[1]


def _read_first(host: Host, paths: tuple[str, ...]) -> str:
    return next((text for path in paths if (text := host.read_text_or_empty(path))), "")


def _revision(host: Host, card: Card) -> str:
    match = _REVISION.fullmatch(host.read_text_or_empty(card.device / "revision"))
    return match[1] if match else "00"
