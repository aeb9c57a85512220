"""What the observer of a run needs to know of it: from its store, this process and this host."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.facts import known_tags
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.insight.observer import (
    DESCRIPTION_TAG,
    Earlier,
    RunObserver,
    Subject,
)
from mlflow_sysmetrics.insight.part import Part
from mlflow_sysmetrics.insight.whole import STATISTICS_TAG
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.log.addresses import shown_text

if TYPE_CHECKING:
    import threading

    from mlflow_sysmetrics.delivery.run_address import RunAddress
    from mlflow_sysmetrics.delivery.run_store import RunState
    from mlflow_sysmetrics.host.clock import Clock
    from mlflow_sysmetrics.settings import Settings

_DESCRIPTION_PATIENCE_S = 1.0


def observer_of(
    settings: Settings,
    address: RunAddress,
    clock: Clock,
    *,
    resumed: bool,
    outer_run_id: str | None,
) -> RunObserver | None:
    """The observer of a run that opens now; None where there is nothing to say of it.

    Args:
        settings: In force for it.
        address: Where it lives.
        clock: The host's.
        resumed: Whether it existed before.
        outer_run_id: The run that was open before in this process, with the same process tree.
    """
    if not (settings.has_summary or settings.has_findings):
        return None
    epoch_s = clock.wall_ms() / 1000
    subject = Subject(
        address.run_id,
        settings,
        facts=known_tags,
        earlier=_EarlierParts(address, epoch_s) if resumed else Earlier,
        has_description=_Description(address),
        outer_run_id=outer_run_id,
    )
    return RunObserver(subject, clock.now_s(), epoch_s)


class _StoreReader:
    """Asks the store about a run, once, in a thread of its own.

    Args:
        address: The run.
    """

    def __init__(self, address: RunAddress) -> None:
        self._address = address
        self._state: RunState | None = None
        self._thread: threading.Thread | None = None

    def _begin(self) -> None:
        with suppress(RuntimeError):  # the interpreter is shutting down: then it stays unknown
            self._thread = start_thread("reader", self._read)

    def _answer(self, patience_s: float) -> RunState | None:
        if self._thread is not None:
            self._thread.join(patience_s)
        return self._state

    def _read(self) -> None:
        try:
            self._state = open_store(self._address).read()
        except Exception as error:  # noqa: BLE001 - a store that does not answer has told nothing
            reason = shown_text(repr(error), self._address.tracking_uri)
            logger.debug("%s could not be read: %s", self._address, reason)


class _EarlierParts(_StoreReader):
    """The parts of a resumed run that came before, read as it opens."""

    def __init__(self, address: RunAddress, opened_s: float) -> None:
        super().__init__(address)
        self._opened_ms = opened_s * 1000
        self._begin()

    def __call__(self) -> Earlier | None:
        state = self._answer(0.0)
        if state is None:
            return None
        text = state.tags.get(STATISTICS_TAG)
        is_any = any(
            each.step > 0 or each.timestamp_ms < self._opened_ms for each in state.latest.values()
        )
        return Earlier(is_any, Part.from_text(text) if text is not None else None)


class _Description(_StoreReader):
    """Whether the user has described the run, read when it is asked for."""

    def __call__(self) -> bool | None:
        self._begin()
        state = self._answer(_DESCRIPTION_PATIENCE_S)
        return None if state is None else bool(state.tags.get(DESCRIPTION_TAG))
