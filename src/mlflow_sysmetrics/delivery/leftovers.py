"""What processes that have ended could not send: found and taken up again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.spool import Spool, SpoolError, SpoolRefused, spool_files
from mlflow_sysmetrics.delivery.spool_folder import shown
from mlflow_sysmetrics.delivery.stream import Stream
from mlflow_sysmetrics.log import logger, warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAMED_FILES = 3  # in the log of a run, which strangers could fill otherwise


def stream_of(spool: Spool, tracking_uri: str) -> Stream:
    """What a file holds, on its way to a store.

    Args:
        spool: The file, all checked.
        tracking_uri: The store. The file's own URI is only compared with it: whoever wrote the
            file does not choose where credentials go, or which database is made.
    """
    return Stream.of_spool(spool, replace(spool.address, tracking_uri=tracking_uri))


def adopt_each(folder: Path, tracking_uri: str) -> Iterator[Stream | None]:
    """Take up what was left for one tracking store, the oldest first, each when it is asked for.

    Args:
        folder: Where the spool files are.
        tracking_uri: The store.

    Yields:
        What was left of one run; None after a step of some milliseconds that found nothing yet.
    """
    refused = 0
    for path in spool_files(folder):
        try:
            spool = Spool.begin_to_adopt(path, tracking_uri)
            while not spool.check_on():
                yield None
        except SpoolRefused as reason:
            refused += 1
            if refused <= _NAMED_FILES:
                _warn_of_refused(path, reason, is_last=refused == _NAMED_FILES)
            yield None
            continue
        except (SpoolError, OSError) as reason:
            logger.debug("%s is left alone: %s", shown(path), reason)
            yield None
            continue
        stream = stream_of(spool, tracking_uri)
        if stream.unsent:
            yield stream
        else:
            stream.forget()


def _warn_of_refused(path: Path, reason: SpoolRefused, *, is_last: bool) -> None:
    warn_once(
        f"{shown(path)} is left alone, and nothing of it is sent: {reason}"
        + ("; `mlflow-sysmetrics upload --list` names further ones" if is_last else ""),
        subject=f"refused {path}",
    )
