"""The files of one process under /proc, as they are read at every tick."""

from __future__ import annotations

import os
import re
import signal
from typing import NamedTuple

from mlflow_sysmetrics.sources import MOST, ParseError
from mlflow_sysmetrics.sources.kernel_file import read_kernel_file

CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
"""Ticks a second, in which `stat` gives times."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
"""Unit of `statm`."""

UNREADABLE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""How reading fails where the process has ended, before or after opening, or is another user's."""

_LAST_STAT_FIELD = 19  # starttime, counted from the state
_MOST_TICKS = 1 << 50
_STATM = re.compile(rb"([0-9]{1,12}) ([0-9]{1,12}) ")  # up to 4 PB, in pages
_IO = re.compile(rb"^(read_bytes|write_bytes|cancelled_write_bytes): (\d{1,20})$", re.MULTILINE)
_ROLLUP = re.compile(rb"^(Pss|SwapPss|Private_\w+): +(\d{1,13}) kB$", re.MULTILINE)
_OPEN_FILES = re.compile(rb"^Max open files +(\d{1,10}) ", re.MULTILINE)
_IGNORED_SIGNALS = re.compile(rb"^SigIgn:\s*([0-9a-f]{1,32})$", re.MULTILINE)
_SIGCHLD_BIT = 1 << (getattr(signal, "SIGCHLD", 17) - 1)


class Stat(NamedTuple):
    """The fields of `/proc/<pid>/stat` that are of use.

    What has `waited` in its name is that of children that ended and were waited for.
    """

    parent_pid: int
    group: int
    session: int
    waited_faults: int
    own_ticks: int
    waited_ticks: int
    threads: int
    start_ticks: int


def parse_stat(line: bytes) -> Stat:
    """Parse `/proc/<pid>/stat`; the name in brackets may itself hold blanks and brackets.

        4798 (my (app)) S 4788 4788 3366 0 -1 4194304 100 0 0 0 12 3 250 40 20 0 8 0 107205 …

    Raises:
        ParseError: It is otherwise.
    """
    fields = line[line.rfind(b")") + 2 :].split(b" ", _LAST_STAT_FIELD + 1)
    try:
        stat = Stat(
            parent_pid=int(fields[1]),
            group=int(fields[2]),
            session=int(fields[3]),
            waited_faults=int(fields[8]) + int(fields[10]),
            own_ticks=int(fields[11]) + int(fields[12]),
            waited_ticks=int(fields[13]) + int(fields[14]),
            threads=int(fields[17]),
            start_ticks=int(fields[_LAST_STAT_FIELD]),
        )
    except (ValueError, IndexError):
        raise ParseError("/proc/<pid>/stat", _text(line)) from None
    if min(stat) < 0 or max(stat) > _MOST_TICKS:
        raise ParseError("/proc/<pid>/stat", _text(line))
    return stat


def parse_statm(line: bytes) -> tuple[int, int]:
    """Parse `/proc/<pid>/statm`, in pages: address space and resident memory, in bytes.

        765 360 347 5 0 110 0

    Raises:
        ParseError: It is otherwise.
    """
    match = _STATM.match(line)
    if match is None:
        raise ParseError("/proc/<pid>/statm", _text(line))
    return int(match[1]) * PAGE_BYTES, int(match[2]) * PAGE_BYTES


def ignores_sigchld(folder: str) -> bool:
    """Whether the children of a process vanish, with all that they used, as they end.

    True where that cannot be read.

    Args:
        folder: Of the process, in /proc.
    """
    try:
        found = _IGNORED_SIGNALS.search(read_kernel_file(f"{folder}/status"))
    except UNREADABLE:
        return True
    return found is None or bool(int(found.group(1), 16) & _SIGCHLD_BIT)


def parse_io(content: bytes) -> tuple[int, int, int]:
    """Parse `/proc/<pid>/io`: bytes read from storage, written to it, and not written after all.

    The last are of files that were deleted, or cut, before they were written.

        read_bytes: 12288
        write_bytes: 4096
        cancelled_write_bytes: 0

    Raises:
        ParseError: One of the lines is missing.
    """
    found = {name: int(digits) for name, digits in _IO.findall(content) if int(digits) < MOST}
    try:
        return found[b"read_bytes"], found[b"write_bytes"], found.get(b"cancelled_write_bytes", 0)
    except KeyError:
        raise ParseError("/proc/<pid>/io", _text(content)) from None


def parse_smaps_rollup(content: bytes) -> tuple[int, int, int]:
    """Parse `/proc/<pid>/smaps_rollup`: private memory (USS), proportional, and in swap, in bytes.

        Pss:                1234 kB
        Private_Clean:        56 kB
        Private_Dirty:       789 kB
        SwapPss:               0 kB

    Raises:
        ParseError: The proportional one is missing.
    """
    found = {name: int(digits) * 1024 for name, digits in _ROLLUP.findall(content)}
    pss, swap = found.pop(b"Pss", None), found.pop(b"SwapPss", 0)
    if pss is None:
        raise ParseError("/proc/<pid>/smaps_rollup", _text(content))
    return sum(found.values()), pss, swap


def parse_open_files_limit(content: bytes) -> int | None:
    """Parse how many files a process may have open from `/proc/<pid>/limits`; None for any number.

    Max open files            1024                 1048576              files
    """
    found = _OPEN_FILES.search(content)
    return int(found[1]) if found is not None else None


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")
