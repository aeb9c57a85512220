"""The program that plays one contender, in its environment: orders in, answers out, in JSON lines.

    python -m comparison.worker CONTENDER

Standard library only, but for what the contender itself imports.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from comparison.loop import stalls_of_loop
from trees import running_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Session(Protocol):
    """What is opened and closed, as its user does it."""

    def open(self, uri: str, interval_s: float) -> str:
        """Open a run, sampled at that interval, and return its id."""

    def close(self) -> None:
        """Close it."""


class MlflowSession:
    """A run of MLflow.

    Args:
        log_system_metrics: As `start_run` takes it.
        with_stouputils: Whether its monitor samples, too.
    """

    def __init__(self, *, log_system_metrics: bool | None, with_stouputils: bool = False) -> None:
        import mlflow  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415 - only here

        self._mlflow = mlflow
        self._log_system_metrics = log_system_metrics
        self._with_stouputils = with_stouputils
        self.tags: dict[str, str] | None = None
        self._monitor: Any = None

    def open(self, uri: str, interval_s: float) -> str:
        """Open a run, sampled at that interval, and return its id."""
        os.environ["MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"] = str(interval_s)
        if self._mlflow.get_tracking_uri() != uri:
            self._mlflow.set_tracking_uri(uri)
            self._mlflow.set_experiment("comparison")
        run = self._mlflow.start_run(tags=self.tags, log_system_metrics=self._log_system_metrics)
        if self._with_stouputils:
            from stouputils.mlflow import (  # type: ignore[import-not-found] # noqa: PLC0415
                ProcessMetricsMonitor,
            )

            # Without its filter each sample is stored, as it is with the others.
            self._monitor = ProcessMetricsMonitor(sampling_interval=interval_s, deadband=0.0)
            self._monitor.start()
        run_id: str = run.info.run_id
        return run_id

    def close(self) -> None:
        """Close it."""
        if self._monitor is not None:
            self._monitor.finish()
        self._mlflow.end_run()


class WandbSession:
    """A run of wandb that is kept on disk; where it is to go is of no account."""

    def __init__(self) -> None:
        import wandb  # type: ignore[import-not-found] # noqa: PLC0415 - only here

        self._wandb = wandb
        self._run: Any = None

    def open(self, _uri: str, interval_s: float) -> str:
        """Open a run, sampled at that interval, and return its id."""
        settings = self._wandb.Settings(
            mode="offline", silent=True, x_stats_sampling_interval=interval_s
        )
        self._run = self._wandb.init(project="comparison", settings=settings)
        run_id: str = self._run.id
        return run_id

    def close(self) -> None:
        """Close it."""
        self._run.finish()


SESSIONS: Mapping[str, Callable[[], Session]] = {
    "bare": lambda: MlflowSession(log_system_metrics=False),
    "tags": lambda: MlflowSession(log_system_metrics=False),
    "old": lambda: MlflowSession(log_system_metrics=False),
    "mlflow": lambda: MlflowSession(log_system_metrics=True),
    "stouputils": lambda: MlflowSession(log_system_metrics=False, with_stouputils=True),
    "three": lambda: MlflowSession(log_system_metrics=True, with_stouputils=True),
    "wandb": WandbSession,
    "ours": lambda: MlflowSession(log_system_metrics=None),
}


class Worker:
    """Obeys orders; each is a method.

    Args:
        session: What it opens and closes.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stack = ExitStack()
        self._trees: set[int] = set()
        self._looking_s = 0.0  # CPU time that finding the helpers took: nobody's cost

    def burden(self, children: int) -> None:
        """Have so many children."""
        if children:
            self._trees.add(self._stack.enter_context(running_tree(children - 1)))

    def open(self, uri: str, interval_s: float) -> dict[str, Any]:
        """Open a run: its id, and how long that took."""
        began_s = time.perf_counter()
        run_id = self._session.open(uri, interval_s)
        return {"run_id": run_id, "took_s": time.perf_counter() - began_s}

    def close(self) -> float:
        """Close it: how long that took, in seconds; MLflow raises where the server has gone."""
        began_s = time.perf_counter()
        with suppress(Exception):
            self._session.close()
        return time.perf_counter() - began_s

    def use_tags(self, tags: dict[str, str]) -> None:
        """Give these tags to each run of MLflow from now on."""
        assert isinstance(self._session, MlflowSession)  # noqa: S101 - for the type checker
        self._session.tags = tags

    def open_and_close(self, uri: str) -> tuple[float, float]:
        """A run that does nothing: seconds, and seconds of CPU time."""
        began_s, used_s = time.perf_counter(), self.cpu_s()
        self._session.open(uri, 10.0)
        self._session.close()
        return time.perf_counter() - began_s, self.cpu_s() - used_s

    def cpu_s(self) -> float:
        """CPU time so far, of this process and of those that the contender started."""
        began_s = time.thread_time()
        helpers_s = sum(map(_cpu_s_of, self._helpers()))
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._looking_s += time.thread_time() - began_s
        own_s = time.process_time() - self._looking_s
        return own_s + ended.ru_utime + ended.ru_stime + helpers_s

    def private_bytes(self) -> int:
        """Memory that is this process's and its helpers' own."""
        return sum(map(_private_bytes_of, (os.getpid(), *self._helpers())))

    def stalls(self, seconds: float) -> list[float]:
        """How long each stall of a loop was that works in steps of a millisecond."""
        return stalls_of_loop(seconds)

    def end(self) -> None:
        """Let go of the children."""
        self._stack.close()

    def _helpers(self) -> list[int]:
        """Pids of descendants that are no burden of ours."""
        parents = _parents()
        found: list[int] = []
        queue = [os.getpid()]
        for pid in queue:  # which grows meanwhile
            joined = [child for child, parent in parents.items() if parent == pid]
            queue += (child for child in joined if child not in self._trees)
            found += (child for child in joined if child not in self._trees)
        return found


def _parents() -> dict[int, int]:
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                line = Path(entry.path, "stat").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(line[line.rfind(b")") + 2 :].split(None, 2)[1])
    return parents


def _cpu_s_of(pid: int) -> float:
    """CPU time of another process, to the nanosecond: `CPUCLOCK_SCHED` of <linux/time.h>."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0  # it has ended


def _private_bytes_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0  # it has ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def main() -> None:
    """Obey until there are no more orders."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a contender prints is no answer
    logging.disable(logging.INFO)
    worker = Worker(SESSIONS[sys.argv[1]]())
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(worker, order.pop("do"))(**order)
        print(json.dumps(answer), file=answers, flush=True)
    worker.end()


if __name__ == "__main__":
    main()
