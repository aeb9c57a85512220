"""The corpus of findings: histories of runs, each with what an expert would say of it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight import stored
from mlflow_sysmetrics.insight.judging import judge
from mlflow_sysmetrics.insight.rules.gpu import node_gpus
from mlflow_sysmetrics.insight.stored import view_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_sysmetrics.insight.finding import Finding
    from mlflow_sysmetrics.insight.run import RunView

FOLDER = Path(__file__).parents[1] / "tests" / "reports" / "findings"


@dataclass(frozen=True)
class History:
    """What one run logged, and what should be said of it.

    Attributes:
        name: Also the file's.
        about: What it shows.
        findings: Ids of the findings that an expert would give.
        allowed: Ids of those that are neither right nor wrong. All others are wrong.
        facts: The run's tags.
        times_s: Since the run opened.
        values: By metric key, without `system/`: one value a time, or none.
        ended: Whether it has ended; else it is judged while it runs.
    """

    name: str
    about: str
    findings: tuple[str, ...]
    allowed: tuple[str, ...]
    facts: dict[str, str]
    times_s: list[float]
    values: dict[str, list[float | None]]
    ended: bool = True

    def until(self, share: float) -> History:
        """The same run when this share of its time has passed, and it goes on."""
        end_s = self.times_s[-1] * share
        kept = [number for number, time_s in enumerate(self.times_s) if time_s <= end_s]
        return replace(
            self,
            times_s=[self.times_s[each] for each in kept],
            values={key: [row[each] for each in kept] for key, row in self.values.items()},
            ended=False,
        )

    def view(self) -> RunView:
        """As rules see it: with several nodes, all of them."""
        return self.views()[0]

    def views(self) -> tuple[RunView, ...]:
        """The run, and each of its nodes where it has several."""
        nodes = sorted({match[1] for key in self.values if (match := _NODE.match(key))})
        if not nodes:
            return (self._view(self.values),)
        views = tuple(
            replace(
                self._view(
                    {
                        key.removeprefix(f"{node}/"): row
                        for key, row in self.values.items()
                        if key.startswith(f"{node}/")
                    }
                ),
                node=node,
            )
            for node in nodes
        )
        uses = {node: node_gpus(view) for node, view in zip(nodes, views, strict=True)}
        return (replace(self._view({}), node_gpus=uses), *views)

    def _view(self, values: dict[str, list[float | None]]) -> RunView:
        histories = {key: self._stored(row) for key, row in values.items()}
        return replace(view_of(histories, _EPOCH_S, self.facts), has_ended=self.ended)

    def _stored(self, row: list[float | None]) -> stored.History:
        """What a store has of one metric."""
        found = stored.History()
        for time_s, value in zip(self.times_s, row, strict=True):
            if value is not None:
                found.times_s.append(_EPOCH_S + time_s)
                found.values.append(value)
        return found

    def write(self, path: Path) -> None:
        """As JSON, a line a metric."""
        head = {
            "about": self.about,
            "findings": self.findings,
            "allowed": self.allowed,
            "facts": self.facts,
            "ended": self.ended,
        }
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        lines.append(f'"times_s": {_numbers(self.times_s)}')
        metrics = [f"{json.dumps(key)}: {_numbers(row)}" for key, row in self.values.items()]
        lines.append('"values": {\n' + ",\n".join(metrics) + "\n}")
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_corpus(folder: Path = FOLDER) -> list[History]:
    """All histories, by name."""
    return [read_history(path) for path in sorted(folder.glob("*.json"))]


def read_history(path: Path) -> History:
    """One of them."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["findings"] = tuple(content["findings"])
    content["allowed"] = tuple(content["allowed"])
    return History(name=path.stem, **content)


def found_in(history: History) -> list[Finding]:
    """What the rules find in a run, and on each of its nodes."""
    return [each for view in history.views() for each in judge(view).findings]


_EPOCH_S = 1_790_000_000.0
_NODE = re.compile(r"(node_[0-9]+)/")


class Score:
    """How often a rule was right.

    Attributes:
        right: Runs in which it found what an expert would.
        wrong: Runs in which it found what an expert would not.
        missed: Runs in which it did not find what an expert would.
    """

    def __init__(self) -> None:
        self.right: list[str] = []
        self.wrong: list[str] = []
        self.missed: list[str] = []

    @property
    def precision(self) -> float | None:
        """Share of its findings that were right; None without one."""
        found = len(self.right) + len(self.wrong)
        return len(self.right) / found if found else None

    @property
    def recall(self) -> float | None:
        """Share of what there was to find that it found; None without any."""
        wanted = len(self.right) + len(self.missed)
        return len(self.right) / wanted if wanted else None


def scores(corpus: Iterable[History]) -> dict[str, Score]:
    """How often each rule was right, over a corpus."""
    made: dict[str, Score] = defaultdict(Score)
    for history in corpus:
        found = {each.id for each in found_in(history)}
        for name in found - set(history.allowed):
            (made[name].right if name in history.findings else made[name].wrong).append(
                history.name
            )
        for name in set(history.findings) - found:
            made[name].missed.append(history.name)
    return made


def _numbers(row: list[float | None] | list[float]) -> str:
    return "[" + ",".join("null" if each is None else f"{each:.6g}" for each in row) + "]"
