"""What stands between the process and the hardware: container and hypervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.sources import container, virtualization

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host


def read_container(host: Host) -> dict[str, str]:
    """The container runtime; none outside a container."""
    return {"sys.container": container.read_container(host)}


def read_virtualization(host: Host) -> dict[str, str]:
    """The hypervisor; none on bare metal, or where nothing names it."""
    return {"sys.virtualization": virtualization.read_virtualization(host)}
