"""`ioreg`, by which a Mac's graphics drivers report how busy they are; it needs no privileges."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.reasons import check_silent
from mlflow_sysmetrics.host.errors import Absent, Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_COMMAND = ("ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")

_ENTRY = re.compile(r"^\+-o ", re.MULTILINE)
_STATISTICS = re.compile(r'^ *"PerformanceStatistics" = \{(.*)\}$', re.MULTILINE)
_STATISTIC = re.compile(r'"([^"]+)"=(\d{1,20})(?=[,}]|$)', re.ASCII)

NEVER_ZERO = ("In use system memory", "Temperature(C)", "Core Clock(MHz)")
"""What no GPU that is switched on reports as 0."""

_MAY_BE_ZERO = ("Device Utilization %", "vramUsedBytes", "Total Power(W)", "Fan Speed(%)")

_LARGEST = 1 << 63  # above it, a negative number was printed as if it had no sign

Statistics = dict[str, int]
"""What one driver reports, under its own names."""


def read_ioreg(host: Host) -> tuple[Statistics, ...]:
    """What the driver of each GPU of a Mac reports.

    Raises:
        Absent: It is no Mac, or one without a GPU.
        Unavailable: No driver reports anything, or the command failed.
    """
    if host.system != "Darwin":
        raise Absent("not a Mac")
    printed = host.run(_COMMAND)
    if not printed.strip():  # as in a virtual machine without a GPU
        raise Absent("no GPU: no graphics driver reports anything")
    try:
        return parse_ioreg(printed)
    except ParseError as error:
        raise Unavailable(f"no graphics driver reports what it does: {error}") from error


def check_ioreg(host: Host) -> tuple[str, ...]:
    """See whether a Mac's GPUs report something.

    Returns:
        Which of them do not, and why.

    Raises:
        Absent: It is no Mac, or one without a GPU.
        Unavailable: None reports anything; the message says why.
    """
    gpus = dict(enumerate(map(_why_silent, read_ioreg(host))))
    return check_silent(gpus, len(gpus))


def are_only_zeros(statistics: Statistics) -> bool:
    """Whether a driver reports nothing but 0, as for a GPU that is off, or in a virtual machine."""
    has_impossible = any(statistics.get(name) == 0 for name in NEVER_ZERO)
    return has_impossible and not any(map(statistics.get, (*NEVER_ZERO, *_MAY_BE_ZERO)))


def _why_silent(statistics: Statistics) -> str | None:
    if are_only_zeros(statistics):
        return "reports nothing but 0, as while it is off"
    if not any(name in statistics for name in (*NEVER_ZERO, *_MAY_BE_ZERO)):
        return "reports nothing (its driver has no figures for ioreg)"
    return None


def parse_ioreg(text: str) -> tuple[Statistics, ...]:
    """The performance statistics of each entry that has some.

        +-o AGXAcceleratorG13X  <class AGXAcceleratorG13X, id 0x100000a90, …>
            {
              "PerformanceStatistics" = {"In use system memory (driver)"=0,"Device Utilization %"=25,"In use system memory"=745570304}
              "model" = "Apple M1 Max"
            }

    Raises:
        ParseError: None has.
    """  # noqa: E501 - a line as it is printed
    gpus = []
    for entry in _ENTRY.split(text)[1:]:
        told = _STATISTICS.search(entry)
        numbers = {
            name: int(number) for name, number in _STATISTIC.findall(told[1] if told else "")
        }
        if numbers:
            gpus.append({name: value for name, value in numbers.items() if value < _LARGEST})
    if not gpus:
        raise ParseError("a list of graphics drivers by ioreg", text)
    return tuple(gpus)
