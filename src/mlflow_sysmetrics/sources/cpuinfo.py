"""The CPU's model name: /proc/cpuinfo on Linux, `sysctl` on macOS, the registry on Windows."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.arm_cores import arm_core_name

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

# x86 and many others, LoongArch, MIPS, RISC-V; the boards of some ARM systems come last.
_NAME_FIELDS = ("model name", "Model Name", "cpu model", "uarch", "Hardware", "Model")

_S390_MACHINE = re.compile(r"machine = (\w+)")


def read_cpu_model(host: Host) -> str:
    """The CPU's model name; several, as on big.LITTLE systems, separated by commas.

    Raises:
        Unavailable: The machine does not name it.
    """
    if host.system == "Linux":
        name = parse_cpuinfo(host.read_text("proc/cpuinfo"))
    elif host.system == "Darwin":
        name = _collapsed(host.run(["sysctl", "-n", "machdep.cpu.brand_string"]))
    elif host.system == "Windows":
        name = _collapsed(_registry_name())
    else:
        name = ""
    if not name:
        raise Unavailable(f"this {host.system} machine does not name its CPU")
    return name


def parse_cpuinfo(text: str) -> str:
    """The model's name from Linux's cpuinfo; empty where there is none.

    Each architecture has fields of its own:

        model name      : AMD EPYC 7763 64-Core Processor       x86
        CPU implementer : 0x41                                  ARM, with
        CPU part        : 0xd40                                 this one
        cpu             : POWER9, altivec supported             POWER
        processor 0: version = 00,  identification = 2733E8,  machine = 8561    s390
        uarch           : sifive,u74-mc                         RISC-V

    Raises:
        ParseError: No line has a colon.
    """
    # A last line that does not end was cut off.
    whole, _, _ = text.rpartition("\n")
    blocks = [_fields(block) for block in re.split(r"\n\s*\n", whole or text)]
    if not any(blocks):
        raise ParseError("/proc/cpuinfo", text)
    per_cpu = [_collapsed(_core_name(block)) for block in blocks]
    names = list(dict.fromkeys(filter(None, per_cpu)))
    return ", ".join(names) or _collapsed(_described_name(blocks))


def _fields(block: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _core_name(fields: dict[str, str]) -> str:
    """What one logical CPU's block says for certain.

    On 32-bit ARM `model name` is but `ARMv7 Processor rev 3 (v7l)`, so the identifiers go first.
    """
    implementer, part = fields.get("CPU implementer", ""), fields.get("CPU part", "")
    name = arm_core_name(implementer, part) or fields.get("model name", "")
    if not name and "cpu" in fields:
        name = fields["cpu"].split(",")[0]
    return "" if name == "unknown" else name


def _described_name(blocks: list[dict[str, str]]) -> str:
    """The next best: a field of any block, s390's machine type, or ARM's bare identifiers."""
    merged = {key: value for block in reversed(blocks) for key, value in block.items()}
    for field in _NAME_FIELDS:
        if merged.get(field, "unknown") != "unknown":
            return merged[field]
    if merged.get("vendor_id", "").startswith("IBM/S390"):
        machine = _S390_MACHINE.search(merged.get("processor 0", ""))
        return f"IBM/S390 {machine.group(1)}" if machine else "IBM/S390"
    if "CPU implementer" in merged and "CPU part" in merged:
        return f"ARM implementer {merged['CPU implementer']} part {merged['CPU part']}"
    return ""


def _collapsed(name: str) -> str:
    return " ".join(name.split())


def _registry_name() -> str:
    if sys.platform != "win32":
        raise Unavailable("the registry is Windows' own")
    import winreg  # noqa: PLC0415 - exists on Windows only

    path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0])
    except OSError as error:
        raise Unavailable(f"registry, {path}: {error}") from error
