"""Where the subjects measure: the contenders at work, a server, and a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any, TypeVar

from _environment import ScriptError, clean_environ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from comparison.contenders import Contender
    from comparison.relay import Relay, Relays

_Each = TypeVar("_Each")

_BENCHMARKS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        title: What was measured.
        unit: Of the values.
        values: What was found, by the contender's name; each to be told as its median.
        base: Name of the contender whose value the others' are compared with; None for no
            comparison.
        ranges: Whether lowest and highest are shown instead of how many times the base it is.
    """

    title: str
    unit: str
    values: Mapping[str, Sequence[float]]
    base: str | None = None
    ranges: bool = False

    def medians(self) -> dict[str, float]:
        """The median of each contender's values."""
        return {name: median(values) for name, values in self.values.items() if values}

    def ratios(self) -> dict[str, float]:
        """How many times as much as the base each contender's median is."""
        medians = self.medians()
        base = medians.get(self.base or "", 0.0)
        return {name: value / base for name, value in medians.items()} if base else {}

    def told_apart(self) -> set[str]:
        """Those of whom every value lies above, or below, every value of the base."""
        base = self.values.get(self.base or "")
        return {
            name
            for name, values in self.values.items()
            if base and values and (min(values) > max(base) or max(values) < min(base))
        }


class Player:
    """A contender at work, in a process of its own."""

    def __init__(self, contender: Contender, folder: Path, variables: Mapping[str, str]) -> None:
        self.contender = contender
        folder.mkdir()
        self.log = folder / "log"
        environ = clean_environ(
            PYTHONPATH=str(_BENCHMARKS),
            MLFLOW_ALLOW_FILE_STORE="true",  # MLflow 3.13 and newer asks for it
            MLFLOW_SYSMETRICS_SPOOL_DIR=str(folder / "spool"),
            WANDB_DIR=str(folder),
            **contender.variables,
        )
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [contender.environment.python, "-m", "comparison.worker", contender.name],
                cwd=folder,
                env={**environ, **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # so that Ctrl-C reaches the benchmark alone
            )

    def tell(self, order: str, **arguments: Any) -> None:  # noqa: ANN401 - any JSON
        """Give an order; `hear` waits for its answer."""
        print(json.dumps({"do": order, **arguments}), file=self._pipes[0], flush=True)

    def hear(self) -> Any:  # noqa: ANN401 - any JSON
        """The answer to the oldest order that has none yet.

        Raises:
            ScriptError: It has ended instead; its log is in the message.
        """
        line = self._pipes[1].readline()
        if not line:
            log = self.log.read_text(encoding="utf-8", errors="replace")
            raise ScriptError(f"{log}\n{self.contender.title} has ended")
        return json.loads(line)

    def ask(self, order: str, **arguments: Any) -> Any:  # noqa: ANN401 - any JSON
        """Give an order and wait for the answer."""
        self.tell(order, **arguments)
        return self.hear()

    def end(self) -> None:
        """Let it end, or kill it where it does not."""
        self._pipes[0].close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipes[1].close()

    @property
    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101 - as above
        return self._process.stdin, self._process.stdout


@dataclass
class Lab:
    """What the subjects work with.

    Attributes:
        contenders: Who takes part.
        quick: Whether to see only that everything works; the figures then mean nothing.
        folder: For stores and logs; empty at the beginning, and deleted at the end.
        server: Address of an MLflow server.
        relays: Relays to it.
    """

    contenders: Sequence[Contender]
    quick: bool
    folder: Path
    server: str
    relays: Relays
    _players: int = 0

    @property
    def samplers(self) -> Sequence[Contender]:
        """Those who take samples."""
        return [each for each in self.contenders if each.samples]

    @contextmanager
    def players(
        self, contenders: Sequence[Contender], variables: Mapping[str, str] | None = None
    ) -> Iterator[Sequence[Player]]:
        """Contenders at work, with further environment variables."""
        with ExitStack() as stack:
            found = []
            for contender in contenders:
                self._players += 1
                folder = self.folder / f"{self._players}-{contender.name}"
                player = Player(contender, folder, variables or {})
                stack.callback(player.end)
                found.append(player)
            ask_all(found, "cpu_s")  # until all have imported what they need
            yield found

    @contextmanager
    def relays_for(self, players: Sequence[Player]) -> Iterator[Sequence[Relay]]:
        """A relay to the server for each player."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.relays.relay()) for _ in players]


def ask_all(players: Sequence[Player], order: str, **arguments: Any) -> list[Any]:  # noqa: ANN401 - any JSON
    """Give all the same order at once, and wait for all answers."""
    for player in players:
        player.tell(order, **arguments)
    return [player.hear() for player in players]


def in_turns(players: Sequence[_Each], round_number: int) -> Sequence[_Each]:
    """All players; who comes first changes from round to round."""
    first = round_number % len(players)
    return [*players[first:], *players[:first]]


def get_json(server: str, path: str) -> Any:  # noqa: ANN401 - any JSON
    """Ask an MLflow server."""
    with urllib.request.urlopen(f"{server}/api/2.0/mlflow/{path}") as answer:  # noqa: S310 - ours
        return json.load(answer)


def latest_metrics(server: str, run_id: str) -> list[dict[str, Any]]:
    """The last point of each metric of a run."""
    data = get_json(server, f"runs/get?run_id={run_id}")["run"]["data"]
    metrics: list[dict[str, Any]] = data.get("metrics", [])
    return metrics


def say(what: str) -> None:
    """Tell the progress."""
    print(f"  {what}", file=sys.stderr, flush=True)
