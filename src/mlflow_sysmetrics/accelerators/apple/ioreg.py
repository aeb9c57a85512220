"""`ioreg`, by which a Mac's graphics drivers report how busy they are; it needs no privileges."""

from __future__ import annotations

import re

from mlflow_sysmetrics.sources import ParseError

COMMAND = ("ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")

_ENTRY = re.compile(r"^\+-o ", re.MULTILINE)
_STATISTICS = re.compile(r'^ *"PerformanceStatistics" = \{(.*)\}$', re.MULTILINE)
_STATISTIC = re.compile(r'"([^"]+)"=(\d{1,20})(?=[,}]|$)', re.ASCII)

_LARGEST = 1 << 63  # above it, a negative number was printed as if it had no sign

Statistics = dict[str, int]
"""What one driver reports, under its own names."""


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
        statistics = _STATISTICS.search(entry)
        numbers = {
            name: int(number)
            for name, number in _STATISTIC.findall(statistics[1] if statistics else "")
        }
        if numbers:
            gpus.append({name: value for name, value in numbers.items() if value < _LARGEST})
    if not gpus:
        raise ParseError("a list of graphics drivers by ioreg", text)
    return tuple(gpus)
