"""Fast reads of procfs and sysfs files, for what is read at every tick.

A `Path` and a text layer cost several times what the kernel takes for these. NUL bytes after the
end, which some kernels and lxcfs put there, are left out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from mlflow_sysmetrics.host.descriptors import identity_of
from mlflow_sysmetrics.host.errors import unavailable
from mlflow_sysmetrics.host.files import decode

if TYPE_CHECKING:
    from collections.abc import Callable

_Value = TypeVar("_Value")

_MOST_BYTES = 16384
_SHORTEST_PIECE_BYTES = 2048
"""The kernel gives a long file page by page, in whole lines, none of which is half a page long. So
a piece that is shorter is the last."""

_KERNELS = ("/proc/", "/sys/")


class KernelFile:
    """A file that stays open between reads, since opening costs more than reading.

    It is opened anew where a read fails (the device was unplugged, the control group removed), or
    where the program has closed it. A file that is not the kernel's own, as of a recorded host, may
    be replaced, so it is opened each time. Reads are at a position, not from one, so a forked
    process does not disturb them.

    Args:
        path: The file.
        is_long: Whether it may have more than 16 KiB, or come in pieces.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str, *, is_long: bool = False) -> None:
        self.path = path
        self._is_long = is_long
        self._stays_open = path.startswith(_KERNELS)
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None

    def read(self) -> bytes:
        """Read it.

        Raises:
            OSError: As the kernel says.
        """
        if self._descriptor is not None:
            try:
                if identity_of(self._descriptor) == self._identity:
                    return self._read_from(self._descriptor)
            except OSError:
                pass
            self.close()
        descriptor = os.open(self.path, os.O_RDONLY)
        self._descriptor, self._identity = descriptor, identity_of(descriptor)
        try:
            content = self._read_from(descriptor)
        except OSError:
            self.close()
            raise
        if not self._stays_open:
            self.close()
        return content

    def parsed(self, parse: Callable[[str], _Value]) -> _Value:
        """Read it as text and parse that.

        Raises:
            Unavailable: It is not there, or may not be read.
            ParseError: It is not as expected.
        """
        try:
            content = self.read()
        except OSError as error:
            raise unavailable(self.path, error) from error
        return parse(content.decode("utf-8", "replace"))

    def close(self) -> None:
        """Close it, unless the program has done so; may be called twice, and read after."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and identity_of(descriptor) == self._identity:
            os.close(descriptor)

    def _read_from(self, descriptor: int) -> bytes:
        content = piece = os.pread(descriptor, _MOST_BYTES, 0)
        while self._is_long and len(piece) >= _SHORTEST_PIECE_BYTES:
            piece = os.pread(descriptor, _MOST_BYTES, len(content))
            content += piece
        return content.rstrip(b"\0")


def read_kernel_file(path: str) -> bytes:
    """Read a file of at most 16 KiB, which these stay well below.

    Raises:
        OSError: As the kernel says.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, _MOST_BYTES).rstrip(b"\0")
    finally:
        os.close(descriptor)


def read_long_kernel_file(path: str) -> bytes:
    """Read a file to its end, which the kernel gives in pieces where it has many lines.

    Raises:
        OSError: As the kernel says.
    """
    file = KernelFile(path, is_long=True)
    try:
        return file.read()
    finally:
        file.close()


def read_kernel_text(path: str) -> str:
    """Read a file of at most 16 KiB as text.

    Raises:
        Unavailable: It is not there, or may not be read.
    """
    try:
        return decode(read_kernel_file(path))
    except OSError as error:
        raise unavailable(path, error) from error
