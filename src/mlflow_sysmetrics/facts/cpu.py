"""The host's CPUs, and how many of them this process may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_sysmetrics.sources.cgroup import read_limits
from mlflow_sysmetrics.sources.cpuinfo import read_cpu_model

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host


def read_cpu(host: Host) -> dict[str, str]:
    """The model's name, from the operating system."""
    return {"sys.cpu": read_cpu_model(host)}


def read_cpu_cores(_host: Host) -> dict[str, str]:
    """Logical CPUs, from `os.cpu_count`."""
    count = os.cpu_count()
    return {"sys.cpu_cores": str(count)} if count else {}


def read_cpu_physical_cores(_host: Host) -> dict[str, str]:
    """Physical cores, from psutil."""
    import psutil  # noqa: PLC0415 - not at import; and where it is broken, this fact alone fails

    count = psutil.cpu_count(logical=False)
    return {"sys.cpu_physical_cores": str(count)} if count else {}


def read_cpu_limit(host: Host) -> dict[str, str]:
    """CPUs that cgroup quota, cpuset and affinity leave; none where that is all of them."""
    cpus = read_limits(host).cpus
    return {"sys.cpu_limit": f"{cpus:.2f}".rstrip("0").rstrip(".")} if cpus else {}
