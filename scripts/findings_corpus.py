"""The corpus of findings: histories of runs, each with what an expert would say of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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
        duration_s: How long the run took; None: to its last time.
        ended: Whether it has ended; else it is judged while it runs.
    """

    name: str
    about: str
    findings: tuple[str, ...]
    allowed: tuple[str, ...]
    facts: dict[str, str]
    times_s: list[float]
    values: dict[str, list[float | None]]
    duration_s: float | None = None
    ended: bool = True

    def write(self, path: Path) -> None:
        """As JSON, a line a metric."""
        head = {
            "about": self.about,
            "findings": self.findings,
            "allowed": self.allowed,
            "facts": self.facts,
            "duration_s": self.duration_s,
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


def _numbers(row: list[float | None] | list[float]) -> str:
    return "[" + ",".join("null" if each is None else f"{each:.6g}" for each in row) + "]"
