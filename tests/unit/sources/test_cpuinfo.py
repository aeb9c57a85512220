from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cpuinfo import parse_cpuinfo, read_cpu_model

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

X86 = """\
processor\t: 0
model\t\t: 85
model name\t: Intel(R) Xeon(R)  Platinum 8259CL CPU @ 2.50GHz

processor\t: 1
model\t\t: 85
model name\t: Intel(R) Xeon(R)  Platinum 8259CL CPU @ 2.50GHz

"""

ARM_32_BIT = """\
processor\t: 0
model name\t: ARMv7 Processor rev 3 (v7l)
CPU implementer\t: 0x41
CPU part\t: 0xd08

Hardware\t: BCM2711
Model\t\t: Raspberry Pi 4 Model B Rev 1.1
"""

BIG_LITTLE = """\
processor\t: 0
CPU implementer\t: 0x41
CPU part\t: 0xd05

processor\t: 1
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""

POWER = """\
processor\t: 0
cpu\t\t: POWER9, altivec supported
clock\t\t: 3783.000000MHz
revision\t: 2.3 (pvr 004e 1203)

timebase\t: 512000000
platform\t: PowerNV
model\t\t: 8335-GTX
machine\t\t: PowerNV 8335-GTX
"""

S390 = """\
vendor_id       : IBM/S390
# processors    : 2
bogomips per cpu: 3033.00
features\t: esan3 zarch stfle msa ldisp eimm dfp edat etf3eh highgprs te vx
processor 0: version = 00,  identification = 2733E8,  machine = 8561
processor 1: version = 00,  identification = 2733E8,  machine = 8561
"""

RISC_V = """\
processor\t: 0
hart\t\t: 1
isa\t\t: rv64imafdc
mmu\t\t: sv39
uarch\t\t: sifive,u74-mc
"""

LOONGARCH = """\
system type\t\t: generic-loongson-machine

processor\t\t: 0
CPU Family\t\t: Loongson-64bit
Model Name\t\t: Loongson-3A5000
"""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (X86, "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz"),
        (ARM_32_BIT, "Arm Cortex-A72"),
        (BIG_LITTLE, "Arm Cortex-A55, Arm Cortex-A76"),
        (POWER, "POWER9"),
        (S390, "IBM/S390 8561"),
        (RISC_V, "sifive,u74-mc"),
        (LOONGARCH, "Loongson-3A5000"),
        ("CPU implementer : 0xc0\nCPU part : 0xac3\n", "Ampere Ampere-1"),
        ("CPU implementer : 0x4e\nCPU part : 0x004\n", "NVIDIA Carmel"),
        ("CPU implementer : 0x61\nCPU part : 0x023\n", "Apple M1"),
        ("CPU implementer : 0x41\nCPU part : 0xfff\n", "ARM implementer 0x41 part 0xfff"),
        ("CPU implementer : 0x99\nCPU part : 0x1\n\nHardware : ACME SoC\n", "ACME SoC"),
        ("processor : 0\nmodel name : unknown\n", ""),
        ("processor : 0\nisa : rv64imafdc\n", ""),
    ],
)
def test_each_architecture_names_its_cpu(text: str, name: str) -> None:
    assert parse_cpuinfo(text) == name


def test_text_without_fields_is_no_cpuinfo() -> None:
    with pytest.raises(ParseError, match="cpuinfo"):
        parse_cpuinfo("no such thing")


def test_a_nameless_cpu_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nisa : rv64imafdc\n")

    with pytest.raises(Unavailable, match="does not name its CPU"):
        read_cpu_model(Host(root=tmp_path, system="Linux"))


def test_a_mac_tells_by_sysctl(mocker: MockerFixture) -> None:
    run = mocker.patch.object(Host, "run", return_value="Apple M3 Max\n")

    assert read_cpu_model(Host(system="Darwin")) == "Apple M3 Max"
    run.assert_called_once_with(["sysctl", "-n", "machdep.cpu.brand_string"])


def test_windows_tells_by_its_registry(
    mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    winreg = SimpleNamespace(
        HKEY_LOCAL_MACHINE=object(),
        OpenKey=mocker.MagicMock(),
        QueryValueEx=mocker.Mock(return_value=("AMD Ryzen 9 7950X 16-Core Processor     ", 1)),
    )
    monkeypatch.setitem(sys.modules, "winreg", winreg)
    monkeypatch.setattr(sys, "platform", "win32")

    assert read_cpu_model(Host(system="Windows")) == "AMD Ryzen 9 7950X 16-Core Processor"
    winreg.OpenKey.assert_called_once_with(
        winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    )


def test_a_registry_without_the_key_is_unavailable(
    mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    winreg = SimpleNamespace(
        HKEY_LOCAL_MACHINE=object(), OpenKey=mocker.Mock(side_effect=FileNotFoundError("no key"))
    )
    monkeypatch.setitem(sys.modules, "winreg", winreg)
    monkeypatch.setattr(sys, "platform", "win32")

    with pytest.raises(Unavailable, match="no key"):
        read_cpu_model(Host(system="Windows"))
