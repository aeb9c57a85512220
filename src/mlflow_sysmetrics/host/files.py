"""Files below a root, as the kernel shows them."""

from __future__ import annotations

import fnmatch
import os
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Transient, unavailable

if TYPE_CHECKING:
    from pathlib import Path


def decode(content: bytes) -> str:
    """Text of a file, less the NUL bytes that some kernels and lxcfs put after its end."""
    return content.rstrip(b"\0").decode("utf-8", errors="replace")


def find_paths(top: Path, pattern: str) -> list[Path]:
    """The paths below `top` that a pattern such as `hwmon/hwmon*` fits, sorted; none without it.

    Unlike `Path.glob`, which in some versions of Python takes a folder that cannot be listed for
    an empty one.

    Raises:
        Transient: A folder cannot be listed now.
    """
    found = [top]
    for part in pattern.split("/"):
        if "*" in part:
            found = [
                path / name for path in found for name in fnmatch.filter(_names_in(path), part)
            ]
        else:
            found = [path / part for path in found]
    return sorted(path for path in found if os.path.lexists(path))


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are wanted
    except OSError as error:
        reason = unavailable(folder, error)
        if isinstance(reason, Transient):
            raise reason from error
        return []
