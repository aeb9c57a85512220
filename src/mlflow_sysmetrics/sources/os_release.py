"""The name of a Linux distribution: os-release, as os-release(5) describes it."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Transient, Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_os_release(host: Host) -> dict[str, str]:
    """The fields of os-release.

    Raises:
        Unavailable: The distribution has no such file.
    """
    try:
        return parse_os_release(host.read_text("etc/os-release"))
    except Transient:
        raise
    except (Unavailable, ParseError):
        return parse_os_release(host.read_text("usr/lib/os-release"))


def parse_os_release(text: str) -> dict[str, str]:
    """Shell-like assignments, quoted as a shell would.

        PRETTY_NAME="Ubuntu 24.04.1 LTS"
        ID=ubuntu

    Raises:
        ParseError: No line is such an assignment.
    """
    fields = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        key, is_assignment, value = line.partition("=")
        if is_assignment and _KEY.fullmatch(key):
            with suppress(ValueError):  # quotes that do not end
                fields[key] = "".join(shlex.split(value))
    if not fields:
        raise ParseError("os-release", text)
    return fields
