"""Sizes of the host's memory, from Linux's /proc/meminfo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host import Host

_LINE = re.compile(r"^(\w+): +([0-9]{1,20}) kB$", re.MULTILINE)


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
    for line in _LINE.finditer(text):
        if line[1] == name:
            return int(line[2]) * 1024
    raise ParseError(f"/proc/meminfo with {name}", text)
