"""Sizes of the host's memory, from Linux's /proc/meminfo."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.fields import find_number

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_MOST_KIB = 1 << 46  # more than any processor can address


class Memory(NamedTuple):
    """Memory or swap of the host, in bytes."""

    total: int
    used: int


def parse_memory(text: str) -> Memory:
    """The lines of /proc/meminfo on memory; kernels before 3.14 lack the second.

        MemTotal:       16384256 kB
        MemAvailable:    9216000 kB
        MemFree:         1024000 kB
        Buffers:          102400 kB
        Cached:          7168000 kB

    In use is all that could not be given to a process at once, as `free` and psutil count it. In
    some containers more is available than there is: then all that is not free.

    Raises:
        ParseError: They do not report it.
    """
    total, available = _size(text, "MemTotal"), _size(text, "MemAvailable")
    if available is None:
        sizes = [_size(text, name) for name in ("MemFree", "Buffers", "Cached")]
        available = None if sizes[0] is None else sum(size or 0 for size in sizes)
    if total and available is not None and available > total:
        available = _size(text, "MemFree")
    if not total or available is None or available > total:
        raise ParseError("/proc/meminfo with memory", text)
    return Memory(total, total - available)


def parse_swap(text: str) -> Memory:
    """The lines of /proc/meminfo on swap; a total of 0 where there is none.

        SwapTotal:       2097148 kB
        SwapFree:        1048576 kB

    Raises:
        ParseError: One of the lines is missing, or more is free than there is.
    """
    total, free = _size(text, "SwapTotal"), _size(text, "SwapFree")
    if total is None or free is None or free > total:
        raise ParseError("/proc/meminfo with swap", text)
    return Memory(total, total - free)


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
    size_bytes = _size(text, name)
    if size_bytes is None:
        raise ParseError(f"/proc/meminfo with {name}", text)
    return size_bytes


def _size(text: str, name: str) -> int | None:
    """Bytes of the first line with a name that can be read; None without one."""
    size_kib = find_number(text, f"{name}:", " kB", _MOST_KIB)
    return None if size_kib is None else size_kib * 1024
