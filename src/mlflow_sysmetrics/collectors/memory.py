"""Memory and swap of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.collectors.subjects import SubjectsCollector
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.kernel_file import KernelFile
from mlflow_sysmetrics.sources.meminfo import (
    Memory,
    parse_memory,
    parse_swap,
    read_meminfo_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host.host import Host


def open_memory(host: Host) -> SubjectsCollector:
    """Memory and swap in use, in the meaning that MLflow's own metrics give to *used*.

    Megabytes and percentages, on every host; no swap readings on one without swap.
    """
    if host.system == "Linux":
        return _LinuxMemory(KernelFile(f"{host.procfs}/meminfo"))
    return SubjectsCollector(
        {
            "the memory": lambda: _memory_readings(_psutil_memory()),
            "the swap": lambda: _swap_readings(_psutil_swap()),
        }
    )


class _LinuxMemory(SubjectsCollector):
    """Reads the file that both are in once.

    Args:
        meminfo: That file.
    """

    def __init__(self, meminfo: KernelFile) -> None:
        subjects = {
            "the memory": lambda: _memory_readings(self._parsed(parse_memory)),
            "the swap": lambda: _swap_readings(self._parsed(parse_swap)),
        }
        super().__init__(subjects, (meminfo,))
        self._meminfo = meminfo
        self._text: str | None = None

    def collect(self) -> dict[str, float]:
        self._text = None
        return super().collect()

    def _parsed(self, parse: Callable[[str], Memory]) -> Memory:
        if self._text is None:
            self._text = self._meminfo.parsed(str)
        try:
            return parse(self._text)
        except ParseError:
            self._meminfo.close()
            raise


def read_total_memory(host: Host) -> int:
    """All memory of the host, in bytes.

    Raises:
        Unavailable: /proc is not there.
        ParseError: It does not report it.
    """
    if host.system == "Linux":
        return read_meminfo_bytes(host, "MemTotal")
    return int(psutil.virtual_memory().total)


def _memory_readings(memory: Memory) -> dict[str, float]:
    return {
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.used / memory.total * 100,
    }


def _swap_readings(swap: Memory) -> dict[str, float]:
    if not swap.total:
        return {}
    return {
        "memory/swap_usage_megabytes": swap.used / 1e6,
        "memory/swap_usage_percentage": swap.used / swap.total * 100,
    }


def _psutil_memory() -> Memory:
    memory = psutil.virtual_memory()
    if not 0 <= memory.used <= memory.total:
        raise ParseError("sizes of memory", str(memory))
    return Memory(memory.total, memory.used)


def _psutil_swap() -> Memory:
    swap = psutil.swap_memory()
    return Memory(swap.total, swap.used)
