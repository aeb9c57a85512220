"""What counts as one host: the processes that see the same machine in the same way."""

from __future__ import annotations

import hashlib
import platform
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_BOOT_ID = "proc/sys/kernel/random/boot_id"
_NAMESPACES = ("pid", "net")


def sampling_domain(host: Host) -> str:
    """Name, in hexadecimal digits, that all processes of one host or container share.

    It is made of the boot id, the host name, and the namespaces of processes and network. Where
    there are none of these (macOS, Windows), the host name is all.
    """
    parts = [host.read_text_or_empty(_BOOT_ID), platform.node()]
    parts += [_namespace(host, name) for name in _NAMESPACES]
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()


def name_of_host(host: Host, *, may_be_named: bool) -> str:
    """A name for this host that can stand in a metric's key, and that no other host has.

    Args:
        host: The host.
        may_be_named: Whether its host name may appear.
    """
    domain = sampling_domain(host)
    name = re.sub(r"[^\w.\-]", "", platform.node(), flags=re.ASCII)[:80]
    return f"{name}-{domain[:4]}" if may_be_named and name else f"host-{domain[:8]}"


def _namespace(host: Host, name: str) -> str:
    try:
        return str((host.procfs / "self" / "ns" / name).readlink())
    except OSError:
        return ""
