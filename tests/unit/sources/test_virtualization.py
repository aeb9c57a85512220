from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.virtualization import read_virtualization

if TYPE_CHECKING:
    from pathlib import Path

VENDOR, PRODUCT = "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name"
BIOS = "sys/class/dmi/id/bios_vendor"
KERNEL = "proc/sys/kernel/osrelease"
CLOCKS = "sys/devices/system/clocksource/clocksource0/available_clocksource"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({VENDOR: "Amazon EC2", PRODUCT: "c7g.xlarge"}, "amazon-ec2"),
        ({VENDOR: "Google", PRODUCT: "Google Compute Engine"}, "google-compute-engine"),
        ({VENDOR: "Microsoft Corporation", PRODUCT: "Virtual Machine"}, "hyper-v"),
        ({VENDOR: "VMware, Inc.", PRODUCT: "VMware7,1"}, "vmware"),
        ({VENDOR: "innotek GmbH", PRODUCT: "VirtualBox"}, "virtualbox"),
        ({VENDOR: "Red Hat", PRODUCT: "KVM"}, "kvm"),
        ({VENDOR: "Xen", PRODUCT: "HVM domU"}, "xen"),
        ({VENDOR: "FreeBSD", BIOS: "BHYVE"}, "bhyve"),
        ({VENDOR: "QEMU", PRODUCT: "Standard PC", CLOCKS: "tsc kvm-clock acpi_pm"}, "kvm"),
        ({VENDOR: "QEMU", PRODUCT: "Standard PC", CLOCKS: "tsc acpi_pm"}, "qemu"),
        ({CLOCKS: "tsc kvm-clock"}, "kvm"),
        ({CLOCKS: "tsc hyperv_clocksource_tsc_page acpi_pm"}, "hyper-v"),
        ({"sys/hypervisor/type": "xen"}, "xen"),
        ({KERNEL: "5.15.153.1-microsoft-standard-WSL2", CLOCKS: "tsc hyperv_clocksource"}, "wsl"),
    ],
)
def test_the_hypervisor_shows_itself(files: dict[str, str], name: str, tmp_path: Path) -> None:
    assert read_virtualization(_host(tmp_path, files)) == name


@pytest.mark.parametrize(
    "files",
    [
        {},
        {VENDOR: "Amazon EC2", PRODUCT: "m7i.metal-24xl", CLOCKS: "tsc hpet acpi_pm"},
        {VENDOR: "Microsoft Corporation", PRODUCT: "Surface Laptop 5"},
        {VENDOR: "Dell Inc.", PRODUCT: "PowerEdge R750", KERNEL: "6.8.0-45-generic"},
        {"proc/cpuinfo": "flags\t: fpu hypervisor\n"},
    ],
)
def test_bare_metal_and_what_nothing_tells(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="hypervisor"):
        read_virtualization(_host(tmp_path, files))


def _host(root: Path, files: dict[str, str]) -> Host:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")
    return Host(root=root, system="Linux")
