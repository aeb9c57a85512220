"""The hypervisor under the host, from what the kernel shows of firmware and clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.host.host import Host

_DMI_FIELDS = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")

_BY_DMI = (
    ("product_name", "Google Compute Engine", "google-compute-engine"),
    ("product_name", "VMware", "vmware"),
    ("product_name", "VirtualBox", "virtualbox"),
    ("product_name", "Parallels", "parallels"),
    ("product_name", "KVM", "kvm"),
    ("product_name", "HVM domU", "xen"),
    ("sys_vendor", "Amazon EC2", "amazon-ec2"),
    ("sys_vendor", "Alibaba Cloud", "alibaba-ecs"),
    ("sys_vendor", "VMware", "vmware"),
    ("sys_vendor", "Parallels", "parallels"),
    ("sys_vendor", "Xen", "xen"),
    ("bios_vendor", "Parallels", "parallels"),
    ("bios_vendor", "Xen", "xen"),
    ("bios_vendor", "BHYVE", "bhyve"),
)
"""Field, how it begins, and what that means; the first that fits counts."""

_BY_CLOCK = (
    ("kvm-clock", "kvm"),
    ("hyperv_clocksource", "hyper-v"),
    ("xen", "xen"),
)

_CLOCKS = "sys/devices/system/clocksource/clocksource0/available_clocksource"


def read_virtualization(host: Host) -> str:
    """The hypervisor's name.

    A processor flag (`hypervisor`) alone shows that there is one, not which, and is left unread.

    Raises:
        Unavailable: Bare metal, or nothing shows otherwise.
    """
    if "microsoft" in host.read_text_or_empty("proc/sys/kernel/osrelease").lower():
        return "wsl"
    dmi = {field: host.read_text_or_empty(f"sys/class/dmi/id/{field}") for field in _DMI_FIELDS}
    clocks = host.read_text_or_empty(_CLOCKS)
    name = (
        name_by_dmi(dmi) or name_by_clocks(clocks) or host.read_text_or_empty("sys/hypervisor/type")
    )
    if not name and dmi["sys_vendor"] == "QEMU":
        name = "qemu"  # last, since KVM under QEMU is known by its clock
    if not name:
        raise Unavailable("no hypervisor shows itself")
    return name


def name_by_dmi(dmi: Mapping[str, str]) -> str:
    """The hypervisor by the firmware's fields; empty where they name none.

    A virtual machine of Hyper-V: `sys_vendor` is `Microsoft Corporation`, as on a Surface, and
    `product_name` is `Virtual Machine`. Amazon's bare metal is `m7i.metal-24xl` of `Amazon EC2`.
    """
    if ".metal" in dmi["product_name"]:
        return ""
    if (dmi["sys_vendor"], dmi["product_name"]) == ("Microsoft Corporation", "Virtual Machine"):
        return "hyper-v"
    return next((name for field, start, name in _BY_DMI if dmi[field].startswith(start)), "")


def name_by_clocks(clocks: str) -> str:
    """The hypervisor by the clock it lends its guests; empty where there is none.

    tsc kvm-clock acpi_pm
    """
    offered = clocks.split()
    return next(
        (name for start, name in _BY_CLOCK if any(clock.startswith(start) for clock in offered)),
        "",
    )
