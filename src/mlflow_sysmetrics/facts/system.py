"""The operating system, the interpreter, and what the machine is called."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from mlflow_sysmetrics.sources.os_release import read_os_release

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_FIRST_WINDOWS_11_BUILD = 22000


def read_system(_host: Host) -> dict[str, str]:
    """What Python's `platform` reports; a field that it leaves empty becomes no tag."""
    return {
        "sys.platform": platform.platform(),
        "sys.kernel": platform.release(),
        "sys.arch": platform.machine(),
        "sys.hostname": platform.node(),
        "sys.python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def read_os(host: Host) -> dict[str, str]:
    """The operating system's name as people say it.

    Raises:
        Unavailable: A Linux without os-release.
    """
    if host.system == "Linux":
        fields = read_os_release(host)
        name = fields.get("PRETTY_NAME") or fields.get("NAME", "")
    elif host.system == "Darwin":
        name = f"macOS {platform.mac_ver()[0]}"
    elif host.system == "Windows":
        release, version, *_ = platform.win32_ver()
        name = windows_name(release, version, platform.win32_edition() or "")
    else:
        name = f"{host.system} {platform.release()}"
    return {"sys.os": name.strip()}


def windows_name(release: str, version: str, edition: str) -> str:
    """`Windows 11 Professional (10.0.22631)` of `11`, `10.0.22631` and `Professional`.

    Python 3.10 calls Windows 11 `10`; servers are `2022Server`.
    """
    build = version.rpartition(".")[2]
    if release == "10" and build.isdecimal() and int(build) >= _FIRST_WINDOWS_11_BUILD:
        release = "11"
    if release.endswith("Server"):
        release = f"Server {release.removesuffix('Server')}"
    return " ".join(filter(None, ("Windows", release, edition, f"({version})")))
