"""The host's memory, and how much of it this process may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog.units import gigabytes
from mlflow_sysmetrics.sources.cgroup import read_limits
from mlflow_sysmetrics.sources.meminfo import read_meminfo_bytes

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host


def read_memory(host: Host) -> dict[str, str]:
    """All memory, from /proc/meminfo on Linux and psutil elsewhere."""
    if host.system == "Linux":
        return {"sys.memory_gb": gigabytes(read_meminfo_bytes(host, "MemTotal"))}
    import psutil  # noqa: PLC0415 - not at import; and where it is broken, this fact alone fails

    return {"sys.memory_gb": gigabytes(psutil.virtual_memory().total)}


def read_memory_limit(host: Host) -> dict[str, str]:
    """The tightest cgroup's limit; none where nothing bounds the process below the host."""
    limit_bytes = read_limits(host).memory_bytes
    return {"sys.memory_limit_gb": gigabytes(limit_bytes)} if limit_bytes else {}
