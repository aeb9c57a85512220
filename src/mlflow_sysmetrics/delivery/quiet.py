"""Keeps libraries from logging what our own calls into them meet: we say it ourselves, once.

MLflow logs two tracebacks for each attempt to reach a database that is away. What they log on
behalf of others, in other threads or between our calls, is left alone.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.forks import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "urllib3", "databricks", "opentelemetry")
_LOADED_LATE = "mlflow.store.db.utils"  # with the first store in a database, which may be away


class _OurCalls(logging.Filter):
    """Drops what is logged by a thread while it is in one of our calls.

    It stays on the loggers: a list of filters that shrinks while another thread goes through it
    would cost that thread a filter of the user's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calling = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the base's signature
        return not getattr(self.calling, "depth", 0)

    def after_fork_in_child(self) -> None:
        """A child is in no call of ours, whichever thread it was forked from."""
        self.calling = threading.local()


_our_calls = _OurCalls()

after_fork_in_child(_our_calls.after_fork_in_child)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Call MLflow, or what it calls; nothing that it logs meanwhile in this thread is seen."""
    logging.getLogger(_LOADED_LATE)
    for name, logger in logging.root.manager.loggerDict.copy().items():
        if name.partition(".")[0] in _LIBRARIES and isinstance(logger, logging.Logger):
            logger.addFilter(_our_calls)  # once
    calling = _our_calls.calling
    calling.depth = getattr(calling, "depth", 0) + 1
    try:
        yield
    finally:
        calling.depth -= 1
