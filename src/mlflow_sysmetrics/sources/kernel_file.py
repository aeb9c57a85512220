"""Fast reads of procfs and sysfs files, for what is read at every tick.

A `Path` and a text layer cost several times what the kernel takes for these. NUL bytes after the
end, which some kernels and lxcfs put there, are left out.
"""

from __future__ import annotations

import os

from mlflow_sysmetrics.host.errors import unavailable
from mlflow_sysmetrics.host.files import decode

_MOST_BYTES = 16384
_CHUNK_BYTES = 65536


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
    descriptor = os.open(path, os.O_RDONLY)
    try:
        chunks = []
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            chunks.append(chunk)
        return b"".join(chunks).rstrip(b"\0")
    finally:
        os.close(descriptor)


def read_kernel_text(path: str, *, is_long: bool = False) -> str:
    """Read a file as text.

    Args:
        path: The file.
        is_long: Whether it may have more than 16 KiB.

    Raises:
        Unavailable: It is not there, or may not be read.
    """
    try:
        content = read_long_kernel_file(path) if is_long else read_kernel_file(path)
    except OSError as error:
        raise unavailable(path, error) from error
    return decode(content)
