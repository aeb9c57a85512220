"""Names of ARM cores, by the implementer and part numbers of their main ID register (MIDR)."""

from __future__ import annotations

_ARM_CORES = {
    0xB76: "ARM1176",
    0xC07: "Cortex-A7",
    0xC08: "Cortex-A8",
    0xC09: "Cortex-A9",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD06: "Cortex-A65",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse N1",
    0xD0D: "Cortex-A77",
    0xD0E: "Cortex-A76AE",
    0xD40: "Neoverse V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse N2",
    0xD4A: "Neoverse E1",
    0xD4B: "Cortex-A78C",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse V2",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
    0xD83: "Neoverse V3AE",
    0xD84: "Neoverse V3",
    0xD85: "Cortex-X925",
    0xD87: "Cortex-A725",
    0xD8E: "Neoverse N3",
}

_APPLE_CORES = {
    0x000: "Silicon",  # what Apple's hypervisor shows its guests
    0x022: "M1",
    0x023: "M1",
    0x024: "M1 Pro",
    0x025: "M1 Pro",
    0x028: "M1 Max",
    0x029: "M1 Max",
    0x032: "M2",
    0x033: "M2",
    0x034: "M2 Pro",
    0x035: "M2 Pro",
    0x038: "M2 Max",
    0x039: "M2 Max",
}

_IMPLEMENTERS: dict[int, tuple[str, dict[int, str]]] = {
    0x41: ("Arm", _ARM_CORES),
    0x42: ("Broadcom", {0x516: "ThunderX2"}),
    0x43: ("Cavium", {0x0A1: "ThunderX", 0x0AF: "ThunderX2", 0x0B8: "ThunderX3"}),
    0x46: ("Fujitsu", {0x001: "A64FX"}),
    0x48: ("HiSilicon", {0xD01: "Kunpeng 920"}),
    0x4E: ("NVIDIA", {0x003: "Denver 2", 0x004: "Carmel", 0x010: "Olympus"}),
    0x51: ("Qualcomm", {0x001: "Oryon", 0xC00: "Falkor"}),
    0x61: ("Apple", _APPLE_CORES),
    0x6D: ("Microsoft", {0xD49: "Cobalt 100"}),
    0x70: ("Phytium", {0x662: "FTC662", 0x663: "FTC663"}),
    0xC0: ("Ampere", {0xAC3: "Ampere-1", 0xAC4: "Ampere-1a"}),
}


def arm_core_name(implementer: str, part: str) -> str:
    """Maker and core, as `Arm Neoverse V1` for `0x41` and `0xd40`; empty where not known."""
    try:
        maker, cores = _IMPLEMENTERS[int(implementer, 16)]
        return f"{maker} {cores[int(part, 16)]}"
    except (KeyError, ValueError):
        return ""
