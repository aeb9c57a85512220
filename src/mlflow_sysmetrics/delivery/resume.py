"""Where the steps of a run begin, and the tags of a run that is resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_sysmetrics.delivery.run_store import RunStore


class Resume:
    """What has to be asked of a resumed run before anything is sent.

    Args:
        find_tags: Gives the tags to set where the run has none of them; None for a new run.

    Attributes:
        first_step: Step of the run to which ours are added; None until the store was asked.
        tags: The tags to set on it.
        had_ended: Whether the run had ended before.
    """

    def __init__(self, find_tags: Callable[[], Mapping[str, str]] | None = None) -> None:
        self.first_step = None if find_tags is not None else 0
        self.tags: Mapping[str, str] = {}
        self.had_ended = False
        self._find_tags = find_tags

    @classmethod
    def of_leftover(cls, first_step: int | None, tags: Mapping[str, str]) -> Resume:
        """What an earlier process has found out."""
        resume = cls()
        resume.first_step, resume.tags = first_step, tags
        return resume

    def ask(self, store: RunStore) -> int:
        """Ask a store for the first step, and set the tags.

        Raises:
            Exception: What `RunStore` raises.
        """
        if self._find_tags is not None:
            self.tags = self._find_tags()
        state = store.read()
        if self.tags and not set(state.tags) & self.tags.keys():
            store.log([], self.tags)
        self.had_ended = state.has_ended
        return state.next_step
