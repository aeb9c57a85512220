"""Sizes of the host's memory, from Linux's /proc/meminfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.kernel_file import read_kernel_text

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_MOST_BYTES = 1 << 56  # more than any processor can address


class Memory(NamedTuple):
    """The host's memory, in bytes."""

    total: int
    used: int


class Swap(NamedTuple):
    """The host's swap, in bytes."""

    total: int
    used: int


def read_memory(host: Host) -> Memory:
    """Memory in use: all that could not be given to a process at once, as `free` counts it.

    Raises:
        Unavailable: /proc is not there.
        ParseError: It does not report it.
    """
    return parse_memory(read_kernel_text(f"{host.procfs}/meminfo"))


def parse_memory(text: str) -> Memory:
    """The lines of /proc/meminfo on memory; kernels before 3.14 lack the second.

        MemTotal:       16384256 kB
        MemAvailable:    9216000 kB
        MemFree:         1024000 kB
        Buffers:          102400 kB
        Cached:          7168000 kB

    Raises:
        ParseError: They do not report it, or more is available than there is.
    """
    sizes = _sizes(text, "MemTotal", "MemAvailable", "MemFree", "Buffers", "Cached")
    total = sizes.get("MemTotal")
    available = sizes.get("MemAvailable")
    if available is None and "MemFree" in sizes:
        available = sizes["MemFree"] + sizes.get("Buffers", 0) + sizes.get("Cached", 0)
    if not total or available is None or available > total:
        raise ParseError("/proc/meminfo with memory", text)
    return Memory(total, total - available)


def read_swap(host: Host) -> Swap:
    """Swap; a total of 0 where there is none.

    psutil reports the same, but reads all of /proc/vmstat too, for what was swapped in and out.

    Raises:
        Unavailable: /proc is not there.
        ParseError: It does not report it.
    """
    return parse_swap(read_kernel_text(f"{host.procfs}/meminfo"))


def parse_swap(text: str) -> Swap:
    """The lines of /proc/meminfo on swap; the kernel's kB are 1024 bytes.

        SwapTotal:       2097148 kB
        SwapFree:        1048576 kB

    Raises:
        ParseError: One of the lines is missing, or more is free than there is.
    """
    sizes = _sizes(text, "SwapTotal", "SwapFree")
    total, free = sizes.get("SwapTotal"), sizes.get("SwapFree")
    if total is None or free is None or free > total:
        raise ParseError("/proc/meminfo with swap", text)
    return Swap(total, total - free)


def read_meminfo_bytes(host: Host, name: str) -> int:
    """One size, such as `MemTotal`, all memory that the kernel manages.

    Raises:
        Unavailable: /proc is not there.
        ParseError: It has no such line.
    """
    return parse_meminfo_bytes(host.read_text("proc/meminfo"), name)


def parse_meminfo_bytes(text: str, name: str) -> int:
    """Bytes of one line; the kernel's kB are 1024 bytes.

        MemTotal:       16384256 kB

    Raises:
        ParseError: There is no such line.
    """
    sizes = _sizes(text, name)
    if name not in sizes:
        raise ParseError(f"/proc/meminfo with {name}", text)
    return sizes[name]


def _sizes(text: str, *names: str) -> dict[str, int]:
    """Bytes by name, of the lines that can be read; of two with one name the first counts."""
    sizes: dict[str, int] = {}
    pattern = rf"^({'|'.join(names)}): +([0-9]{{1,20}}) kB$"
    for name, digits in re.findall(pattern, text, re.MULTILINE):
        size_bytes = int(digits) * 1024
        if size_bytes < _MOST_BYTES:
            sizes.setdefault(name, size_bytes)
    return sizes
