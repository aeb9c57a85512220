"""The name of a Linux distribution: os-release, as os-release(5) describes it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host import Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host import Host


def read_os_release(host: Host) -> dict[str, str]:
    """The fields of os-release.

    Raises:
        Unavailable: The distribution has no such file.
    """
    try:
        return parse_os_release(host.read_text("etc/os-release"))
    except Unavailable:
        return parse_os_release(host.read_text("usr/lib/os-release"))


def parse_os_release(text: str) -> dict[str, str]:
    """Shell-like assignments, quoted as a shell would.

        PRETTY_NAME="Ubuntu 24.04.1 LTS"
        ID=ubuntu

    Raises:
        ParseError: A line is not an assignment, or its quotes do not end.
    """
    fields = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        key, is_assignment, value = line.partition("=")
        if not is_assignment:
            raise ParseError("an assignment of os-release", line)
        try:
            fields[key] = "".join(shlex.split(value))
        except ValueError as error:
            raise ParseError("an assignment of os-release", line) from error
    return fields
