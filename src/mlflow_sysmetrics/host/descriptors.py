"""Descriptors that stay open: the program may close them, and give their numbers to its own files.

Daemons do so, and whatever closes all descriptors that it finds.
"""

from __future__ import annotations

import os


def identity_of(descriptor: int) -> tuple[int, int] | None:
    """Tells what is open there from any other; None where nothing is."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
