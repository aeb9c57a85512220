"""Which file system holds a path, and whether a call on it may hang, found without such a call.

If a file server is gone, calls on its files block, and the kernel does not interrupt them. A thread
in such a call keeps its process from ending. So the type is first looked up in the kernel's list of
mounts.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# fmt: off
LOCAL_TYPES = frozenset(
    {
        "aufs", "bcachefs", "bpf", "btrfs", "cgroup", "cgroup2", "cramfs", "debugfs",
        "devpts", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs",
        "hfsplus", "hugetlbfs", "iso9660", "jfs", "mqueue", "msdos", "nilfs2", "ntfs",
        "ntfs3", "overlay", "overlayfs", "proc", "ramfs", "reiserfs", "rootfs", "securityfs",
        "squashfs", "sysfs", "tmpfs", "tracefs", "udf", "vfat", "xfs", "zfs",
    }
)
# fmt: on
"""Types that the kernel serves itself. Any other may depend on a server: NFS, SMB, 9p, FUSE."""

_MOUNTINFO = "/proc/self/mountinfo"
_MAX_LINKS = 40  # as the kernel


@dataclass(frozen=True)
class Mount:
    """One mounted file system.

    Attributes:
        id: Its number.
        parent_id: The mount that it is mounted on.
        device: `major:minor` of the file system, which several mounts may share.
        point: Where it is mounted.
        type: Of the file system, such as `nfs4` or `fuse.sshfs`.
    """

    id: str
    parent_id: str
    device: str
    point: str
    type: str

    def __str__(self) -> str:
        return f"the file system at {self.point} ({self.type})"

    @property
    def may_hang(self) -> bool:
        """Whether a call on it may never return."""
        return self.type not in LOCAL_TYPES


_UNKNOWN = Mount("", "", "", os.sep, "of unknown type")
"""For paths that the list of mounts does not cover, as after some `chroot`s."""


def mount_of(path: str, mountinfo: str = _MOUNTINFO) -> Mount | None:
    """The file system that a path is on, or the first on the way to it that may hang.

    Symbolic links are followed, but only on file systems that cannot hang.

    Args:
        path: An absolute path, or one from the working directory; it need not exist.
        mountinfo: The kernel's list of mounts.

    Returns:
        None where there is no such list (on macOS, on Windows, without /proc).

    Raises:
        OSError: The working directory has been deleted.
    """
    mounts = _read_mounts(mountinfo)
    if mounts is None:
        return None
    # The kernel knows the working directory without a call on its file system.
    whole = path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109 - as a string
    parts = whole.split("/")[::-1]
    here, links = "/", 0
    while True:
        mount = visible_mount(here, mounts) or _UNKNOWN
        if mount.may_hang or not parts:
            return mount
        part = parts.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - as a string
            continue
        entry = os.path.join(here, part)  # noqa: PTH118 - as a string
        target = None
        if (visible_mount(entry, mounts) or _UNKNOWN) is mount and links < _MAX_LINKS:
            target = _link_target(entry)
        if target is None:
            here = entry
        else:
            links += 1
            here = "/" if target.startswith("/") else here
            parts += target.split("/")[::-1]


def device_of(path: str, mountinfo: str = _MOUNTINFO) -> str | None:
    """The file system itself that an absolute path without links is on; None where not listed."""
    mount = visible_mount(path, _read_mounts(mountinfo) or [])
    return mount.device if mount is not None else None


def _read_mounts(mountinfo: str) -> list[Mount] | None:
    try:
        with open(mountinfo, "rb") as file:  # noqa: PTH123 - a Path costs more than the read
            return _parsed(file.read())
    except OSError:
        return None


@lru_cache(maxsize=1)
def _parsed(mountinfo: bytes) -> list[Mount]:
    """The list seldom changes from one run to the next, and parsing takes longer than reading."""
    return parse_mountinfo(os.fsdecode(mountinfo))


def parse_mountinfo(text: str) -> list[Mount]:
    r"""Parse `/proc/self/mountinfo`, in which a path has `\040` for a space.

    36 35 98:0 /export /mnt/my\040data rw,noatime shared:1 - nfs4 server:/export rw,errors=continue

    Other lines are skipped.
    """
    mounts = []
    for line in text.split("\n"):
        before, _, after = line.partition(" - ")
        fields, types = before.split(" "), after.split(" ")
        if len(fields) > 5 and types[0]:  # noqa: PLR2004 - the options come next
            mount_id, parent_id, device, _root, point = fields[:5]
            mounts.append(Mount(mount_id, parent_id, device, _unescaped(point), types[0]))
    return mounts


def visible_mount(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that a path without links is on, as the kernel walks down to it.

    A later mount hides what is below it, so the longest mount point may be the wrong one.

    Returns:
        None where the list lacks the root.
    """
    ids = {mount.id for mount in mounts}
    mount = next(
        (
            each
            for each in mounts
            if each.point == "/" and (each.parent_id not in ids or each.parent_id == each.id)
        ),
        None,
    )
    left = [each for each in mounts if each is not mount and _is_below(path, each.point)]
    while mount is not None:
        on_it = [each for each in left if each.parent_id == mount.id]
        if not on_it:
            break
        mount = min(on_it, key=lambda each: len(each.point))
        left.remove(mount)
    return mount


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _link_target(path: str) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - as a string
    except OSError:  # no link, or nothing there
        return None


def _unescaped(text: str) -> str:
    return os.fsdecode(
        re.sub(rb"\\([0-3][0-7]{2})", lambda match: bytes([int(match[1], 8)]), os.fsencode(text))
    )
