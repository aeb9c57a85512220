"""Where the control groups of a process are found in the file system.

`/proc/<pid>/cgroup` names the groups, `/proc/self/mountinfo` says where each hierarchy is
mounted and which part of it; only both together give a directory, since a container sees
a part of the hierarchy (its mount's root) or names that begin at its own group (a namespace).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_sysmetrics.host.host import Host

UNIFIED = ""
"""Stands for the version 2 hierarchy where a version 1 controller's name could stand."""

_MOUNTINFO_FIELDS = 6
_FILE_SYSTEM_FIELDS = 3
_OCTAL_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")


@dataclass(frozen=True)
class CgroupMount:
    """A mounted cgroup hierarchy, or a part of it.

    Attributes:
        root: The group that is shown at `mount_point`.
        mount_point: Absolute path.
        controllers: Of version 1; `{UNIFIED}` for version 2.
    """

    root: str
    mount_point: str
    controllers: frozenset[str]


@dataclass(frozen=True)
class Cgroup:
    """The group that governs a process in one respect.

    Attributes:
        version: 1 or 2.
        directories: The group's own directory, then its visible ancestors', nearest first.
    """

    version: int
    directories: tuple[Path, ...]


def find_cgroup(host: Host, controller: str) -> Cgroup:
    """The group that governs `controller` (`cpu`, `memory`, `cpuset`) for the host's process.

    It is version 1's where the process has one for the controller, else version 2's, so hybrid
    hosts need no case of their own.

    Args:
        host: The machine.
        controller: Name of a controller; `UNIFIED` for the version 2 group, whatever governs.

    Raises:
        Unavailable: No cgroups, or none visible from here.
    """
    try:
        groups = parse_cgroup(host.read_text(host.process_folder / "cgroup"))
        mounts = parse_mountinfo(host.read_text(host.procfs / "self/mountinfo"))
    except ParseError as error:
        raise Unavailable(str(error)) from error
    if controller not in groups:
        controller = UNIFIED
    group = groups.get(controller)
    if group is None:
        raise Unavailable("the process is in no cgroup")
    found = _locate(group, [mount for mount in mounts if controller in mount.controllers])
    if found is None:
        raise Unavailable(f"cgroup {group} is not mounted here")
    mount_point, below = found
    parts = PurePosixPath(below).parts
    top = host.root / mount_point.lstrip("/")
    directories = tuple(top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))
    return Cgroup(2 if controller == UNIFIED else 1, directories)


def _locate(group: str, mounts: list[CgroupMount]) -> tuple[str, str] | None:
    """The mount point that shows a group, and the group's path below it."""
    # The shortest root shows the most ancestors.
    for mount in sorted(mounts, key=lambda mount: len(mount.root)):
        root = mount.root.rstrip("/")
        below = group.removeprefix(root)
        if group.startswith(root) and below[:1] in {"", "/"} and ".." not in below.split("/"):
            return mount.mount_point, below.strip("/")
    # A container may see its own group mounted under a root that it has no name for. But
    # a group that is named from above (`/../other`) is outside of what a namespace shows.
    if mounts and not group.startswith("/.."):
        return mounts[0].mount_point, ""
    return None


def parse_cgroup(text: str) -> dict[str, str]:
    """Parse `/proc/<pid>/cgroup`: the group for each version 1 controller and for `UNIFIED`.

    A line of version 1, and the only line of version 2:

        4:cpu,cpuacct:/docker/3f1a
        0::/system.slice/ssh.service

    Raises:
        ParseError: No line looks so.
    """
    groups: dict[str, str] = {}
    for line in text.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not hierarchy.isdecimal() or not colon or not path.startswith("/"):
            continue
        # Said of a group that was removed while the process is still in it.
        path = path.removesuffix(" (deleted)")
        for controller in controllers.split(","):
            groups.setdefault(controller, path)
    if not groups:
        raise ParseError("/proc/<pid>/cgroup", text)
    return groups


def parse_mountinfo(text: str) -> list[CgroupMount]:
    """Parse `/proc/<pid>/mountinfo`: the cgroup mounts in it.

    A line:

        35 31 0:32 /docker/3f1a /sys/fs/cgroup/memory ro,nosuid shared:9 - cgroup cgroup rw,memory

    Raises:
        ParseError: No line looks so.
    """
    mounts = []
    has_lines = False
    for line in text.splitlines():
        mount, dash, file_system = line.partition(" - ")
        fields, kind = mount.split(" "), file_system.split(" ")
        if not dash or len(fields) < _MOUNTINFO_FIELDS or len(kind) < _FILE_SYSTEM_FIELDS:
            continue
        has_lines = True
        if kind[0] == "cgroup":
            controllers = frozenset(kind[2].split(","))
        elif kind[0] == "cgroup2":
            controllers = frozenset({UNIFIED})
        else:
            continue
        mounts.append(CgroupMount(_unescaped(fields[3]), _unescaped(fields[4]), controllers))
    if not has_lines:
        raise ParseError("mountinfo", text)
    return mounts


def _unescaped(path: str) -> str:
    r"""Undo the kernel's escapes of blanks and backslashes (`\040`)."""
    return _OCTAL_ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), path)
