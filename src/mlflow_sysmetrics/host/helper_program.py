"""What runs in the process that `file_helper.py` starts: the standard library alone."""

from __future__ import annotations

import importlib
import marshal
import os
import signal
from typing import Any

LENGTH_BYTES = 4
_MARSHAL_VERSION = 2  # which every Python 3 has


def serve() -> None:
    """Make the calls that standard input, a socket, requests, until it is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the run
        signal.signal(number, signal.SIG_IGN)
    while request := _read_exactly(int.from_bytes(_read_exactly(LENGTH_BYTES), "big")):
        answer = framed(_answer(*unframed(request)))
        try:
            while answer:
                answer = answer[os.write(0, answer) :]
        except OSError:  # the other end is closed
            return


def framed(message: tuple[Any, ...]) -> bytes:
    """A message with its length before it."""
    data = marshal.dumps(message, _MARSHAL_VERSION)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def unframed(data: bytes) -> tuple[Any, ...]:
    """The message without its length."""
    message: tuple[Any, ...] = marshal.loads(data)  # noqa: S302 - from our own process
    return message


def _answer(
    module: str, name: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, ...]:
    """Whether a function returned, and what; else the error."""
    try:
        return True, getattr(importlib.import_module(module), name)(*arguments, **options)
    except OSError as error:
        return False, error.errno, error.strerror or str(error)
    except Exception as error:  # noqa: BLE001 - the caller gets it as the answer
        return False, None, repr(error)


def _read_exactly(size: int) -> bytes:
    """So many bytes; none at the end."""
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            return b""
        data += piece
    return data
