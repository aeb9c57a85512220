"""Memory and swap of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from mlflow_sysmetrics.host import Host


class MemoryCollector:
    """Memory and swap in use, in the meaning that MLflow's own metrics give to *used*."""

    def collect(self) -> dict[str, float]:
        """Megabytes and percentages; no swap readings on a host without swap."""
        memory = psutil.virtual_memory()
        readings = {
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.used / memory.total * 100,
        }
        swap = psutil.swap_memory()
        if swap.total:
            readings["swap_usage_megabytes"] = swap.used / 1e6
            readings["swap_usage_percentage"] = swap.used / swap.total * 100
        return readings

    def close(self) -> None:
        """Nothing is held."""


def open_memory(_host: Host) -> MemoryCollector:
    """Memory exists on every host."""
    return MemoryCollector()
