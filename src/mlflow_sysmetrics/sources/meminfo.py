"""The host's memory, from Linux's /proc/meminfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host import Host

_TOTAL = re.compile(r"^MemTotal: +([0-9]+) kB$", re.MULTILINE)


def read_total_bytes(host: Host) -> int:
    """All memory that the kernel manages.

    Raises:
        Unavailable: /proc is not there.
    """
    return parse_total_bytes(host.read_text("proc/meminfo"))


def parse_total_bytes(text: str) -> int:
    """Bytes of the first line; the kernel's kB are 1024 bytes.

        MemTotal:       16384256 kB

    Raises:
        ParseError: There is no such line.
    """
    total = _TOTAL.search(text)
    if total is None:
        raise ParseError("/proc/meminfo", text)
    return int(total.group(1)) * 1024
