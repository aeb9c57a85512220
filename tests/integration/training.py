"""A distributed training on hosts that are namespaces of this machine, led by files."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fakes.waiting import eventually
from integration.launcher import SCRIPTS, Outcome, finished
from integration.stored import stored_runs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from typing_extensions import Self

    from integration.launcher import Launcher, Point, Run

RANK = SCRIPTS / "rank.py"
TORCHRUN: tuple[str | Path, ...] = (sys.executable, "-m", "torch.distributed.run")
START_RANKS = SCRIPTS / "start_ranks.py"
TICK_S = 1.0
_TREE = "process/num_processes"
_PLAIN = ""
"""The node of a run that has one: its keys have no prefix."""


class Tree(NamedTuple):
    """A process and all its descendants, in number and size, as /proc has them."""

    processes: int
    rss_megabytes: float
    time_s: float


class Rank(NamedTuple):
    """What a rank says of itself; `parent` is the launcher's process, the other ranks included."""

    rank: int
    host: str
    pid: int
    samples: bool
    own: Tree
    parent: Tree
    began_s: float


@dataclass
class Training:
    """Some commands that are one training; a context manager that leaves no process over.

    Attributes:
        launcher: Starts them.
        store_uri: The database of the server that they log to.
        told: The folder by which the ranks are led.
        experiment: The name of the one that they log to.
        outcomes: What became of the commands, once they have ended.
    """

    launcher: Launcher
    store_uri: str
    told: Path
    experiment: str
    outcomes: list[Outcome] = field(default_factory=list)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @classmethod
    def of(cls, launcher: Launcher, store_uri: str, **variables: str) -> Self:
        """One that has a folder and an experiment of its own.

        Args:
            launcher: Knows the server.
            store_uri: Its database.
            variables: Further environment variables.
        """
        told = Path(tempfile.mkdtemp(dir=launcher.folder, prefix="training-"))
        own = {
            "TOLD": str(told),
            "MLFLOW_EXPERIMENT_NAME": told.name,
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": str(TICK_S),
            "OMP_NUM_THREADS": "1",
        }
        variables = launcher.variables | own | variables
        experiment = variables["MLFLOW_EXPERIMENT_NAME"]
        return cls(replace(launcher, variables=variables), store_uri, told, experiment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with process:
                process.communicate()

    def start(
        self, command: Sequence[str | Path], host: str | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        """Start a command.

        Args:
            command: It.
            host: A host of its own: its name; None for this machine.
            variables: Further environment variables.
        """
        whole = command if host is None else on_host(host, command)
        launcher = replace(self.launcher, variables=self.launcher.variables | variables)
        process = launcher.start_command(whole)
        self._processes.append(process)
        return process

    def tell(self, name: str) -> None:
        """Let the ranks do what `rank.py` can."""
        (self.told / name).touch()

    def measure(self, ranks: int) -> list[Rank]:
        """Let all ranks say what /proc has of them."""
        self.tell("measure")
        eventually(lambda: len([*self.told.glob("rank-*.json")]) == ranks)
        told = sorted(self.told.glob("rank-*.json"))
        return [_rank(json.loads(path.read_text())) for path in told]

    def end(self) -> Run:
        """Let it come to its end, and wait for it; the only run."""
        self.tell("end")
        self.wait()
        return self.run

    def wait(self) -> None:
        """Wait for the end of all commands."""
        self.outcomes += [finished(process) for process in self._processes]
        self._processes.clear()

    @property
    def runs(self) -> list[Run]:
        """Its runs as the store has them now."""
        return stored_runs(self.store_uri, self.experiment)

    @property
    def run(self) -> Run:
        """The only one."""
        (run,) = self.runs
        return run

    @property
    def said(self) -> list[str]:
        """What the plugin said to the user, once all has ended."""
        return [line for outcome in self.outcomes for line in outcome.warnings]

    def wait_for_points(self, *nodes: str, count: int = 3, name: str | None = None) -> None:
        """Wait until the store has so many points of each node.

        Args:
            nodes: Their numbers; none for a run with plain keys.
            count: How many.
            name: The run; None for the only one.
        """
        try:
            eventually(lambda: self._have_points(nodes or (_PLAIN,), count, name))
        except TimeoutError as error:
            raise AssertionError(self._state()) from error

    def _have_points(self, nodes: Sequence[str], count: int, name: str | None) -> bool:
        runs = [run for run in self.runs if name in {None, run.name}]
        return bool(runs) and all(
            len(points_of(run, node)) >= count for run in runs for node in nodes
        )

    def _state(self) -> str:
        """What there is to see of a training that does not go on."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.wait()
        said = "\n".join(f"{o.exit_status}: {o.stderr[-3000:]}" for o in self.outcomes)
        runs = "\n".join(
            f"{run.name} {run.status} {run.tags.get('sysmetrics.job')}"
            f" { ({node: len(points_of(run, node)) for node in nodes_of(run)}) }"
            for run in self.runs
        )
        return f"\nruns: {runs}\n{said}"


def on_host(name: str, command: Sequence[str | Path], *, alone: bool = True) -> list[str | Path]:
    """A command on a host of its own.

    Args:
        name: The host's.
        command: The command.
        alone: Its processes see no others; False for a host that several commands share.
    """
    namespaces = ["--uts"]
    if alone:
        namespaces += ["--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *namespaces, "sh", "-c", 'hostname "$0" && exec "$@"', name, *command]


def as_user(number: int, command: Sequence[str | Path]) -> list[str | Path]:
    """A command as another user, who may read what this one may."""
    return ["unshare", "--user", f"--map-user={number}", f"--map-group={number}", *command]


def points_of(run: Run, node: str = _PLAIN, key: str = _TREE) -> list[Point]:
    """A node's points of a metric."""
    prefix = f"node_{node}/" if node else ""
    return run.system.get(f"{prefix}{key}", [])


def nodes_of(run: Run) -> set[str]:
    """The nodes that have points; the empty string where the keys are plain."""
    return {
        key.split("/")[0].removeprefix("node_") if key.startswith("node_") else _PLAIN
        for key in run.system
        if not key.startswith("summary/")
    }


def launcher_on(host: str, ranks: Sequence[Rank]) -> Tree:
    """What the process tree of a host should be: the launcher's process with all its ranks."""
    return max(rank.parent for rank in ranks if rank.host == host)


def _rank(told: dict[str, Any]) -> Rank:
    own, parent = (Tree(**told.pop(name)) for name in ("own", "parent"))
    return Rank(own=own, parent=parent, **told)


def assert_shows(run: Run, node: str, tree: Tree) -> None:
    """The run has a node's whole tree, and one point of it a tick."""
    points = points_of(run, node)
    times_ms = [point.timestamp_ms for point in points]
    steps = [point.step for point in points]
    assert steps == sorted(set(steps))
    assert times_ms == sorted(set(times_ms))
    assert len(points) <= run.lasted_s / TICK_S + 2
    near_ms = (tree.time_s - 2 * TICK_S) * 1000, (tree.time_s + 2 * TICK_S) * 1000
    seen = {
        key: [
            point.value
            for point in points_of(run, node, f"process/{key}")
            if near_ms[0] <= point.timestamp_ms <= near_ms[1]
        ]
        for key in ("num_processes", "memory_rss_megabytes")
    }
    assert tree.processes in seen["num_processes"], (tree, seen)
    differences = [value / tree.rss_megabytes - 1 for value in seen["memory_rss_megabytes"]]
    assert min(map(abs, differences)) < 0.02, (tree, seen)
