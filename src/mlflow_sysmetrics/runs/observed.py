"""What the observer of a run needs to know of it: from its store, this process and this host."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.tracking import open_store
from mlflow_sysmetrics.facts import known_tags
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.insight.last_word import DESCRIPTION_TAG, LastWord
from mlflow_sysmetrics.insight.node_tag import NodeTag, key_of
from mlflow_sysmetrics.insight.observer import LEADER, Earlier, RunObserver, Subject
from mlflow_sysmetrics.insight.part import Part
from mlflow_sysmetrics.insight.whole import STATISTICS_TAG
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.log.addresses import shown_text
from mlflow_sysmetrics.log.isolation import contained

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from mlflow_sysmetrics.delivery.run_address import RunAddress
    from mlflow_sysmetrics.delivery.run_store import RunState
    from mlflow_sysmetrics.host.clock import Clock
    from mlflow_sysmetrics.sampling.sink import Record
    from mlflow_sysmetrics.settings import Settings

_DESCRIPTION_PATIENCE_S = 1.0


@dataclass(frozen=True)
class RunBeside:
    """What is sampled beside a run.

    Attributes:
        nodes: How many nodes its job has, this one counted; 1 where that is not known.
        outer_run_id: The run that was open before in this process, with the same process tree.
    """

    nodes: int = 1
    outer_run_id: str | None = None


def observer_of(
    settings: Settings,
    address: RunAddress,
    clock: Clock,
    *,
    resumed: bool,
    beside: RunBeside,
) -> RunObserver | None:
    """The observer of a run that opens now; None where there is nothing to say of it.

    Args:
        settings: In force for it.
        address: Where it lives.
        clock: The host's.
        resumed: Whether it existed before.
        beside: What is sampled beside it.
    """
    if not (settings.has_summary or settings.has_findings):
        return None
    epoch_s = clock.wall_ms() / 1000
    subject = Subject(
        address.run_id,
        settings,
        facts=known_tags,
        earlier=_EarlierParts(address, epoch_s, settings.node_id) if resumed else Earlier,
        has_description=_Description(address),
        outer_run_id=beside.outer_run_id,
        nodes=beside.nodes,
    )
    return RunObserver(subject, clock.now_s(), epoch_s)


def last_word_of(
    settings: Settings, nodes: int, outer_run_id: str | None
) -> Callable[[Mapping[str, str]], Record | None] | None:
    """Makes what is said of a whole run when a node has ended; None for a run on one.

    Args:
        settings: In force for it.
        nodes: How many its job has.
        outer_run_id: The run within which it is; None where it is within none.
    """
    if (
        settings.node_id is None
        or nodes <= 1
        or not (settings.has_summary or settings.has_findings)
    ):
        return None
    last_word = LastWord(settings, nodes, settings.node_id == LEADER, outer_run_id)

    def said(tags: Mapping[str, str]) -> Record | None:
        with contained("a run on several hosts gets no summary"):
            return last_word(tags)
        return None

    return said


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

    def __init__(self, address: RunAddress, opened_s: float, node: str | None) -> None:
        super().__init__(address)
        self._node = node
        self._opened_ms = opened_s * 1000
        self._begin()

    def __call__(self) -> Earlier | None:
        state = self._answer(0.0)
        if state is None:
            return None
        is_any = any(
            each.step > 0 or each.timestamp_ms < self._opened_ms for each in state.latest.values()
        )
        return Earlier(is_any, self._part(state.tags))

    def _part(self, tags: Mapping[str, str]) -> Part | None:
        """What this node, or the only one, said of it."""
        if self._node is None:
            return Part.from_text(tags.get(STATISTICS_TAG, ""))
        tag = NodeTag.from_text(self._node, tags.get(key_of(self._node), ""))
        return None if tag is None else tag.result.part


class _Description(_StoreReader):
    """Whether the user has described the run, read when it is asked for."""

    def __call__(self) -> bool | None:
        self._begin()
        state = self._answer(_DESCRIPTION_PATIENCE_S)
        return None if state is None else bool(state.tags.get(DESCRIPTION_TAG))
