"""Memory and swap of the host."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.meminfo import (
    Memory,
    Swap,
    read_meminfo_bytes,
    read_memory,
    read_swap,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host.host import Host


class MemoryCollector(Collector):
    """Memory and swap in use, in the meaning that MLflow's own metrics give to *used*.

    Args:
        memory: Reads the memory.
        swap: Reads the swap.
    """

    def __init__(self, memory: Callable[[], Memory], swap: Callable[[], Swap]) -> None:
        self._memory = memory
        self._swap = swap
        self._subjects = Subjects()

    def collect(self) -> dict[str, float]:
        """Megabytes and percentages; no swap readings on a host without swap."""
        return {
            **self._subjects.read("the memory", self._memory_readings),
            **self._subjects.read("the swap", self._swap_readings),
        }

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        return self._subjects.notes()

    def _memory_readings(self) -> dict[str, float]:
        total_bytes, used_bytes = self._memory()
        return {
            "system_memory_usage_megabytes": used_bytes / 1e6,
            "system_memory_usage_percentage": used_bytes / total_bytes * 100,
        }

    def _swap_readings(self) -> dict[str, float]:
        total_bytes, used_bytes = self._swap()
        if not total_bytes:
            return {}
        return {
            "memory/swap_usage_megabytes": used_bytes / 1e6,
            "memory/swap_usage_percentage": used_bytes / total_bytes * 100,
        }


def open_memory(host: Host) -> MemoryCollector:
    """Memory exists on every host."""
    if host.system != "Linux":
        return MemoryCollector(_psutil_memory, _psutil_swap)
    return MemoryCollector(partial(read_host_memory, host), partial(read_swap, host))


def read_total_memory(host: Host) -> int:
    """All memory of the host, in bytes.

    Raises:
        Unavailable: /proc is not there.
        ParseError: It does not report it.
    """
    if host.system == "Linux":
        return read_meminfo_bytes(host, "MemTotal")
    return int(psutil.virtual_memory().total)


def read_host_memory(host: Host) -> Memory:
    """Memory as psutil counts it; by our own look at /proc/meminfo where psutil cannot read it.

    psutil reads none where one line is not as it expects.

    Raises:
        Unavailable: /proc is not there.
        ParseError: It does not report it.
    """
    try:
        return _psutil_memory()
    except (OSError, ValueError, LookupError):
        if host.system != "Linux":
            raise
        return read_memory(host)


def _psutil_memory() -> Memory:
    memory = psutil.virtual_memory()
    if not 0 <= memory.used <= memory.total:
        raise ParseError("sizes of memory", str(memory))
    return Memory(memory.total, memory.used)


def _psutil_swap() -> Swap:
    swap = psutil.swap_memory()
    return Swap(swap.total, swap.used)
