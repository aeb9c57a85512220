"""The one place where exceptions of any kind end: what fails here must not harm the user's run.

psutil, MLflow, a store or a driver may raise anything. The user's code must not see it, and the
other parts of the plugin go on. Ctrl-C and `sys.exit` are not stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.log import warn_once
from mlflow_sysmetrics.log.addresses import shown_text

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Isolated:
    """A block that raises no `Exception`; the caller handles `error`.

    Attributes:
        error: The exception that ended the block; None if it ended well.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.error = error
        return True


class Contained(Isolated):
    """See `contained`."""

    def __init__(self, what: str, subject: str | None, tracking_uri: str | None) -> None:
        super().__init__()
        self._what = what
        self._subject = subject
        self._tracking_uri = tracking_uri

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not super().__exit__(kind, error, traceback):
            return False
        reason = shown_text(repr(error), self._tracking_uri)
        warn_once(f"{self._what}: {reason}", self._subject)
        return True


def contained(
    what: str, *, subject: str | None = None, tracking_uri: str | None = None
) -> Contained:
    """A block that raises no `Exception`; one warning says what the user does not get, and why.

    Args:
        what: What the failure means for the run, such as `runs get no host tags`.
        subject: What it is about, where one warning is enough whatever the reason.
        tracking_uri: Address of the store, whose secrets the reason may contain.
    """
    return Contained(what, subject, tracking_uri)
