"""The folder that unsent samples are kept in, and which files there may be trusted.

Whoever can change a spool file decides what is sent with this user's credentials. So a file is made
only where nobody else can change it, and taken up only if nobody else can have written it; that is
looked at on the open file, so that it cannot be exchanged in between.

Where the file system may hang, a helper process calls these functions (`file_helper.py`): so they
need the standard library alone, and take and return plain values.

Windows has no such modes: there, a folder is as private as its access list makes it, which the
user's profile is.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".spool"
MAX_FILE_BYTES = 256 * 2**20
"""What one run may leave: a week at an interval of 10 s, at some 4 kB a sample."""
MAX_MARKS_BYTES = 16 * 2**20
"""What the notes about how far a file is sent may add to that."""

_MAX_FILES_OF_OTHERS = 10_000  # that are looked at in a folder which others may fill up
_OPEN_FLAGS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # else to open a FIFO waits for ever
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class SpoolError(Exception):
    """A file cannot be taken up now; the message says why."""


class SpoolRefused(SpoolError):  # noqa: N818 - says what happened
    """A file must not be taken up: it is not ours, or not as this package writes files."""


class _Directory:
    """An open directory: what is done in it is done there, whatever its path comes to mean.

    Args:
        path: The directory.
        descriptor: Its descriptor; None on Windows, which opens no directories.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def open(self, name: str, flags: int) -> int:
        """Open a file in it; no links are followed, and nothing is waited for."""
        return os.open(self._at(name), flags | _OPEN_FLAGS, 0o600, dir_fd=self._descriptor)

    def stat(self, name: str) -> os.stat_result:
        """What there is under a name; of a link, the link itself."""
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)

    def unlink(self, name: str) -> None:
        """Delete a file in it."""
        os.unlink(self._at(name), dir_fd=self._descriptor)

    def spool_names(self) -> Iterator[str]:
        """The names of the spool files in it, in no order."""
        with os.scandir(self.path if self._descriptor is None else self._descriptor) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    yield entry.name

    @property
    def is_private(self) -> bool:
        """Whether only this user can add files, and exchange them."""
        if sys.platform == "win32" or self._descriptor is None:
            return True
        found = os.fstat(self._descriptor)
        return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_MAY_WRITE

    @contextmanager
    def private_subfolder(self, *, make: bool) -> Iterator[_Directory]:
        """This user's own folder in one that others may write to.

        Raises:
            OSError: It cannot be made, is not this user's, or cannot be made private.
        """
        path = self.path / _subfolder_name()
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._at(path.name), 0o700, dir_fd=self._descriptor)
        with _open_directory(path, inside=self._descriptor) as folder:
            folder.make_private()
            yield folder

    def make_private(self) -> None:
        """Keep others out.

        Raises:
            OSError: It belongs to another user, or its file system does not keep modes.
        """
        if sys.platform == "win32" or self._descriptor is None:
            return
        found = os.fstat(self._descriptor)
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{self.path} belongs to another user (uid {found.st_uid})")
        if found.st_mode & 0o077:
            os.fchmod(self._descriptor, 0o700)
            if os.fstat(self._descriptor).st_mode & 0o077:
                raise PermissionError(
                    f"{self.path} cannot be kept from others: its file system does not keep modes"
                )

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)


@contextmanager
def _open_directory(path: Path, inside: int | None = None) -> Iterator[_Directory]:
    """Open a directory.

    Args:
        path: The directory.
        inside: The open directory that it is in, where its path cannot be trusted.

    Raises:
        OSError: It is not there, or no directory.
    """
    if sys.platform == "win32":
        yield _Directory(path, None)
        return
    flags = os.O_RDONLY | os.O_DIRECTORY
    if inside is None:
        descriptor = os.open(path, flags)
    else:
        descriptor = os.open(path.name, flags | os.O_NOFOLLOW, dir_fd=inside)
    try:
        yield _Directory(path, descriptor)
    finally:
        os.close(descriptor)


def create_file(folder: str, name: str) -> tuple[str, int]:
    """Make a file that only this user can change; the folder, too, if it is not there.

    Returns:
        The file, which is in a folder of this user's where others may write to `folder`, and its
        descriptor.

    Raises:
        OSError: The disk refuses, or the file system does not keep modes.
    """
    with _private_folder(Path(folder)) as directory:
        descriptor = directory.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        if _why_not(os.fstat(descriptor)) is not None:
            os.close(descriptor)
            directory.unlink(name)
            raise PermissionError(
                f"files in {directory.path} cannot be kept from others: its file system does not "
                "keep modes"
            )
        return str(directory.path / name), descriptor


def open_file(path: str, *, of_others: bool = False) -> int | str:
    """Open a file that only this user can have written, to read and to write.

    Args:
        path: The file.
        of_others: Open it whoever wrote it, to read.

    Returns:
        Its descriptor; or why it must not be taken up.

    Raises:
        OSError: It cannot be opened.
    """
    file = Path(path)
    with _open_directory(file.parent) as directory:
        if reason := _why_not(directory.stat(file.name), of_others=of_others):
            return reason  # opening a device may do something already
        descriptor = directory.open(
            file.name, os.O_RDONLY if of_others else os.O_RDWR | os.O_APPEND
        )
    if reason := _why_not(os.fstat(descriptor), of_others=of_others):
        os.close(descriptor)
        return reason
    return descriptor


def owner_of(descriptor: int) -> str:
    """Who wrote a file: `you`, a user's name, or number."""
    found = os.fstat(descriptor)
    return "you" if is_of_this_user(found) else user_name(found.st_uid)


def delete_file(path: str, descriptor: int) -> None:
    """Close a file and delete it, unless its name is another one's by now.

    Raises:
        OSError: The disk refuses.
    """
    ours = os.fstat(descriptor)
    os.close(descriptor)  # Windows deletes no file that is open
    file = Path(path)
    with _open_directory(file.parent) as directory:
        if os.path.samestat(ours, directory.stat(file.name)):
            directory.unlink(file.name)


def list_files(folder: str) -> list[tuple[str, float, int, str]]:
    """Path, time of the last change, size of all spool files in a folder, the oldest first.

    And why a file must not be taken up; empty if it may.

    None where there is no such folder. Where others may write to it, those in this user's own
    folder there are among them.
    """
    found: list[tuple[str, float, int, str]] = []
    try:
        with _open_directory(Path(folder)) as directory:
            if directory.is_private:
                _add_files(found, directory, None)
            else:
                _add_files(found, directory, _MAX_FILES_OF_OTHERS)
                with directory.private_subfolder(make=False) as own:
                    _add_files(found, own, None)
    except OSError:  # one is not there
        pass
    return sorted(found, key=lambda each: each[1::-1])


def why_not_writable(folder: str) -> str | None:
    """Why no file can be made in a folder, which may have to be made first; None if one can."""
    place = Path(folder)
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is not a folder"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{place} cannot be written to"
    return None


def shown(path: Path) -> str:
    """A path that others may have named, fit to be shown in a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in str(path))


def is_of_this_user(found: os.stat_result) -> bool:
    """Whether a file belongs to this user; on Windows, any does."""
    return sys.platform == "win32" or found.st_uid == os.geteuid()


def user_name(uid: int) -> str:
    """A user's name, or number where there is no name."""
    if sys.platform != "win32":
        import pwd  # noqa: PLC0415 - not on Windows

        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            pass
    return f"uid {uid}"


def _why_not(found: os.stat_result, *, of_others: bool = False) -> str | None:
    """Why a file must not be taken up; None if it may."""
    mode = found.st_mode
    if not stat.S_ISREG(mode):
        return "it is a link" if stat.S_ISLNK(mode) else "it is no regular file"
    if found.st_size > MAX_FILE_BYTES + MAX_MARKS_BYTES:
        return f"it is larger than {MAX_FILE_BYTES // 2**20} MiB, which no spool file becomes"
    return None if of_others else _why_not_ours(found)


def _why_not_ours(found: os.stat_result) -> str | None:
    """Why another user may have written a file; None if nobody else can have."""
    if not is_of_this_user(found):
        return f"it belongs to another user (uid {found.st_uid}); `upload --file` sends it"
    if sys.platform != "win32" and found.st_mode & _OTHERS_MAY_WRITE:
        mode = stat.S_IMODE(found.st_mode)
        return f"others may write to it (mode {mode:04o}); `upload --file` sends it"
    if found.st_nlink > 1:
        return "it has other names, too (hard links); `upload --file` sends it"
    return None


@contextmanager
def _private_folder(folder: Path) -> Iterator[_Directory]:
    _make_folder(folder)
    with _open_directory(folder) as directory:
        if directory.is_private:
            yield directory
        else:
            with directory.private_subfolder(make=True) as own:
                yield own


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, all private whatever the umask."""
    if not folder.parent.exists():
        _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _subfolder_name() -> str:
    return "mlflow-sysmetrics" if sys.platform == "win32" else f"mlflow-sysmetrics-{os.geteuid()}"


def _add_files(
    found: list[tuple[str, float, int, str]], directory: _Directory, max_files: int | None
) -> None:
    for name in islice(directory.spool_names(), max_files):
        try:
            stat_result = directory.stat(name)
        except OSError:  # sent and deleted meanwhile
            continue
        path, refusal = str(directory.path / name), _why_not(stat_result) or ""
        found.append((path, stat_result.st_mtime, stat_result.st_size, refusal))
