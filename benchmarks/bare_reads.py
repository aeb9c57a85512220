"""The least that a sample can cost: which files it reads, and their bare reads.

The files are observed, not listed: those opened during one sample, and those kept open.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WARM_UP_SAMPLES = 3
_APART_S = 0.1
_KERNEL = ("/proc/", "/sys/")
_MOST_BYTES = 1 << 16


def files_read_by(start: Callable[[], Callable[[], object]]) -> list[str]:
    """The kernel's files that one sample reads, once sampling is under way.

    An audit hook stays for good: call this in a process that measures nothing.

    Args:
        start: Begins to sample, and returns what takes a sample.
    """
    kept_before = set(_kept_open())
    sample = start()
    for _ in range(_WARM_UP_SAMPLES):
        sample()
        time.sleep(_APART_S)
    opened: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            opened.append(os.fspath(arguments[0]) if isinstance(arguments[0], str) else "")

    sys.addaudithook(hook)
    sample()
    seen = list(opened)
    seen += set(_kept_open()) - kept_before
    own = f"/proc/{os.getpid()}/"
    return sorted(
        {path.replace(own, "/proc/self/", 1) for path in seen if path.startswith(_KERNEL)}
    )


def _kept_open() -> list[str]:
    """What the descriptors of this process lead to."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are what is wanted
        with suppress(OSError):  # the descriptor of the listing itself is gone
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - as above
    return found


class BareReads:
    """Reads files by descriptors that stay open, and asks for the space on one file system.

    Nothing is parsed.

    Args:
        paths: The files; those that have gone, as a thread's may, are left out.

    Attributes:
        descriptors: One a file, open until the process ends.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.descriptors = []
        for path in paths:
            with suppress(OSError):
                self.descriptors.append(os.open(path, os.O_RDONLY))

    def read(self) -> None:
        """Read each file once."""
        for descriptor in self.descriptors:
            with suppress(ProcessLookupError):  # a process of the tree has ended
                os.pread(descriptor, _MOST_BYTES, 0)
        os.statvfs(".")
