"""A tracking store that answers as a test wants, and what is sent to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_sysmetrics.delivery.run_store import InvalidPoints, LastPoint, Limits, RunState
from mlflow_sysmetrics.sampling.sink import Point, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

OPENED_MS = 1_700_000_000_000


@dataclass
class LostAnswer:
    """The store takes points, all or the first of them, and its answer is lost on the way."""

    stored: int | None = None


class ScriptedStore:
    """A run in a store that keeps all that it is sent, also what it has, as a file store does.

    Each call first takes one answer off the script: an exception is raised, a function called.

    Attributes:
        calls: The names of the methods called, in order.
        batches: The points of each call of `log` that was answered well.
        stored: All points that the store has.
        tags: All tags that the run has.
        refused_keys: Keys of metrics that it does not take.
        max_points: How many points it takes at once; None for any number.
    """

    def __init__(
        self,
        *script: Exception | LostAnswer | Callable[[], object],
        stored: Iterable[Point] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.limits = Limits()
        self.script = list(script)
        self.calls: list[str] = []
        self.batches: list[list[Point]] = []
        self.stored = list(stored)
        self.tags = dict(tags or {})
        self.refused_keys: set[str] = set()
        self.max_points: int | None = None
        self.is_deleted = False
        self.has_ended = False

    def log(self, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        answer = self._answer("log")
        if self.is_deleted:
            raise InvalidPoints("the run must be active")
        if self.max_points is not None and len(points) > self.max_points:
            raise InvalidPoints("too large", is_too_large=True)
        if self.refused_keys & {point.key for point in points}:
            raise InvalidPoints("invalid metric")
        self.tags.update(tags)
        if isinstance(answer, LostAnswer):
            self.stored += points[: answer.stored]
            raise ConnectionError("the answer is lost")
        self.stored += points
        self.batches.append(list(points))

    def read(self) -> RunState:
        self._answer("read")
        latest: dict[str, LastPoint] = {}
        for point in self.stored:
            found = LastPoint(point.step, point.timestamp_ms)
            latest[point.key] = max(latest.get(point.key, found), found)
        return RunState(self.tags, latest, self.is_deleted, self.has_ended)

    def timestamps(self, key: str) -> frozenset[int]:
        self._answer("timestamps")
        return frozenset(point.timestamp_ms for point in self.stored if point.key == key)

    @property
    def steps(self) -> list[int]:
        return [point.step for point in self.stored]

    def _answer(self, call: str) -> object:
        self.calls.append(call)
        answer = self.script.pop(0) if self.script else None
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer()
        return answer


def sample(step: int, **values: float) -> Record:
    """A sample of one metric, a second after the one before."""
    return Record(step, OPENED_MS + 1000 * step, values or {"key": float(step)})


def samples(steps: Iterable[int]) -> list[Record]:
    return [sample(step) for step in steps]


def wide_sample(step: int, metrics: int) -> Record:
    """A sample of many metrics."""
    return sample(step, **{f"key_{number}": 1.0 for number in range(metrics)})
