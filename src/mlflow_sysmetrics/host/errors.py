"""Why something of the host cannot be read."""

from __future__ import annotations

import errno
import os


class Unavailable(Exception):  # noqa: N818 - a state of the host, not an error of ours
    """A source that this host does not have; the message says why, for a person to read."""


class Absent(Unavailable):
    """Hardware that this host does not have: no fault."""


class Transient(Unavailable):
    """A source that cannot be read now, for want of a resource: worth a retry."""


_WANT_OF_RESOURCE = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ETIMEDOUT)
)
"""Error numbers that say nothing about the source: the process or the host is short of
descriptors, memory, processes or time."""


def unavailable(what: object, error: OSError) -> Unavailable:
    """Why something cannot be read, as the exception to raise.

    Args:
        what: The file or command.
        error: How opening or reading it failed.

    Returns:
        `Transient` where the process or the host was short of a resource.
    """
    kind = Transient if is_shortage(error) else Unavailable
    return kind(f"{what}: {error.strerror or error}")


def is_shortage(error: Exception | None) -> bool:
    """Whether something failed for want of a resource."""
    of_system = isinstance(error, OSError) and error.errno in _WANT_OF_RESOURCE
    return of_system or isinstance(error, Transient | MemoryError)


def is_short_of_descriptors() -> bool:
    """Whether no file can be opened now; what libraries then report as missing may exist."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return True
    return False


def import_failure(what: str, error: Exception, remedy: str = "") -> Unavailable:
    """Why a module cannot be imported, as the exception to raise.

    A module that is not installed stays missing; any other failure is worth a retry.
    """
    kind = Unavailable if isinstance(error, ModuleNotFoundError) else Transient
    return kind(f"{what} cannot be imported: {error}" + (f"; {remedy}" if remedy else ""))
