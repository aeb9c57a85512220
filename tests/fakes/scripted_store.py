"""A tracking store that answers as a test wants, and streams to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.delivery.outbox import Point
from mlflow_sysmetrics.delivery.uploader import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class ScriptedStore:
    """A store that keeps what it is sent; each call first takes one answer off the script.

    An answer that is an exception is raised, one that can be called is called.
    """

    def __init__(self, *script: Exception | Callable[[], object], first_step: int = 0) -> None:
        self.script = list(script)
        self.batches: list[list[Point]] = []
        self.resumed_with: list[Mapping[str, str]] = []
        self.first_step = first_step

    def log(self, points: Sequence[Point]) -> None:
        self._answer()
        self.batches.append(list(points))

    def resume(self, tags: Mapping[str, str]) -> int:
        self._answer()
        self.resumed_with.append(tags)
        return self.first_step

    @property
    def steps(self) -> list[int]:
        return [point.step for batch in self.batches for point in batch]

    def _answer(self) -> None:
        if not self.script:
            return
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        answer()


def points(steps: Iterable[int]) -> list[Point]:
    return [Point("key", 1.0, 0, step) for step in steps]


def stream_to(store: ScriptedStore, **fields: Any) -> Stream:  # noqa: ANN401 - any field's value
    """A stream to a store, which is the scripted one."""
    return Stream(name="run 1", open_store=lambda: store, **fields)  # type: ignore[arg-type,return-value] # a stand-in
