from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.host.mounts import mount_of, parse_mountinfo, visible_mount

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a list")

ROOT = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw"
HOME = "40 22 0:50 /export /home rw shared:7 master:2 - nfs4 server:/export rw,vers=4.2"


class Mounts:
    """A list of mounts in which the tree below a folder is on the root file system."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "mountinfo"

    def are(self, *lines: str) -> None:
        self._file.write_text("\n".join([*lines, ""]))

    def type_of(self, path: str | Path) -> str:
        mount = mount_of(str(path), str(self._file))
        assert mount is not None
        return mount.type


@pytest.fixture
def mounts(tmp_path: Path) -> Mounts:
    return Mounts(tmp_path)


def test_a_line_is_read_with_and_without_optional_fields() -> None:
    without = "41 22 0:51 / /mnt/a rw - fuse.sshfs me@host: rw"

    home, sshfs = parse_mountinfo(f"{HOME}\n{without}\n")

    assert (home.id, home.parent_id, home.device, home.point) == ("40", "22", "0:50", "/home")
    assert (home.type, home.may_hang) == ("nfs4", True)
    assert (sshfs.point, sshfs.type) == ("/mnt/a", "fuse.sshfs")


@pytest.mark.parametrize("text", ["", "\n\n", "22 1 8:1", "\0" * 50, "a b c d e f g h", " - - - "])
def test_what_is_no_list_of_mounts_has_none(text: str) -> None:
    assert parse_mountinfo(text) == []


def test_spaces_in_a_mount_point_are_spaces() -> None:
    (mount,) = parse_mountinfo(r"41 22 0:51 / /mnt/my\040data\134\303\274 rw - cifs //server/x rw")

    assert mount.point == "/mnt/my data\\ü"


@pytest.mark.parametrize(
    "kind",
    ["fuse", "fuse.gcsfuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "lustre",
     "gpfs", "beegfs", "ceph", "autofs", "afs", "panfs", "wekafs", "of-tomorrow"],
)  # fmt: skip
def test_a_file_system_with_a_server_or_an_unknown_one_may_hang(mounts: Mounts, kind: str) -> None:
    mounts.are(ROOT, f"41 22 0:51 / /mnt/a rw - {kind} server rw")

    assert mounts.type_of("/mnt/a/b") == kind
    assert mounts.type_of("/mnt/ab") == "ext4"


def test_what_a_later_mount_hides_is_not_what_a_path_is_on() -> None:
    hidden = "41 22 0:51 / /a/b rw - tmpfs tmpfs rw"
    over_it = "42 22 0:52 / /a rw - nfs4 server:/ rw"
    on_top = "43 42 0:53 / /a rw - xfs /dev/sdb rw"
    mounts = parse_mountinfo(f"{ROOT}\n{hidden}\n{over_it}\n{on_top}\n")

    found = visible_mount("/a/b/c", mounts)

    assert found is not None
    assert found.type == "xfs"


def test_a_local_mount_below_one_that_may_hang_is_reached_through_that(mounts: Mounts) -> None:
    mounts.are(ROOT, HOME, "43 40 8:2 / /home/me/scratch rw - xfs /dev/sdb rw")

    assert mounts.type_of("/home/me/scratch") == "nfs4"


def test_a_link_leads_to_where_it_points(mounts: Mounts, tmp_path: Path) -> None:
    mounts.are(ROOT, f"41 22 0:51 / {tmp_path}/mnt rw - nfs server:/ rw")
    (tmp_path / "sub").mkdir()
    (tmp_path / "absolute").symlink_to(tmp_path / "mnt/data")
    (tmp_path / "sub/relative").symlink_to("../absolute")
    (tmp_path / "local").symlink_to("sub")

    assert mounts.type_of(tmp_path / "absolute") == "nfs"
    assert mounts.type_of(tmp_path / "sub/relative/x") == "nfs"
    assert mounts.type_of(tmp_path / "local/.././mnt") == "nfs"
    assert mounts.type_of(tmp_path / "local") == "ext4"


def test_links_in_a_circle_end(mounts: Mounts, tmp_path: Path) -> None:
    mounts.are(ROOT)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert mounts.type_of(tmp_path / "a/c") == "ext4"


def test_where_the_root_is_not_listed_anything_may_hang(mounts: Mounts) -> None:
    mounts.are("41 22 0:51 / /mnt rw - ext4 /dev/sdb rw")

    mount = mount_of("/data", str(mounts._file))

    assert mount is not None
    assert mount.may_hang


def test_a_deleted_working_directory_hides_no_absolute_path(
    mounts: Mounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts.are(ROOT)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert mounts.type_of("/data") == "ext4"


def test_without_a_list_nothing_is_known() -> None:
    assert mount_of("/", os.devnull + "/none") is None
