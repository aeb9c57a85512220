"""A process that opens and closes runs when it is told, so that faults meet it at set points."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fakes.waiting import eventually
from integration.launcher import BOTH, SCRIPTS, Outcome
from integration.stored import stored_samples, stored_tags

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from integration.launcher import Launcher
    from integration.stored import Sample

UPLOAD = (
    "import sys; from mlflow_sysmetrics.cli.main import main; sys.argv = ['', 'upload']; main()"
)
"""A script that is `mlflow-sysmetrics upload`."""

_HUNG_S = 400  # MLflow itself may try for four minutes to close a run


class Opened(NamedTuple):
    """A run: its id, the wall time at which `start_run` returned, and how long that took."""

    run_id: str
    time_s: float
    took_s: float


class Closed(NamedTuple):
    """The wall time at which `end_run` was called, how long it took, and what it raised."""

    time_s: float
    took_s: float
    error: str | None


class CommandedRun:
    """Such a process; a context manager that leaves none over.

    Args:
        launcher: Starts it.
        providers: MLFLOW_RUN_CONTEXT_PROVIDER; None leaves it out.
        variables: Further environment variables.

    Attributes:
        opened: The runs that were opened, in their order.
        closed: The runs that were closed, in their order.
    """

    def __init__(self, launcher: Launcher, providers: str | None = BOTH, **variables: str) -> None:
        self.opened: list[Opened] = []
        self.closed: list[Closed] = []
        self._said: list[str] = []
        script = SCRIPTS / "commanded_run.py"
        self.process = launcher.start(script, providers, stdin=subprocess.PIPE, **variables)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._watchdog = threading.Timer(_HUNG_S, self.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def __enter__(self) -> Self:
        self.wait_until_ready()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def end(self) -> None:
        """End it, if it has not ended, and what belongs to it."""
        if self.process.poll() is None:
            self.kill()
        self._finish()

    def wait_until_ready(self) -> None:
        """Wait until it has imported MLflow."""
        self._answer()

    def open_run(self, run_id: str | None = None) -> Opened:
        """Let it open a run, nested in the last one; or resume one."""
        self.opened.append(Opened(**self.ask("open_run", run_id)))
        return self.opened[-1]

    def close_run(self) -> Closed:
        """Let it close the run that was opened last."""
        self.closed.append(Closed(**self.ask("close_run")))
        return self.closed[-1]

    def ask(self, command: str, *arguments: object) -> dict[str, Any]:
        """Let it do what `commanded_run.py` can; its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    @property
    def said(self) -> list[str]:
        """What it said on stderr up to now, line by line."""
        return list(self._said)

    def kill(self) -> None:
        """End it by SIGKILL, children and all."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def exit(self) -> Outcome:
        """Let the interpreter come to its end; what became of it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self._finish()
        return Outcome(self.process.returncode, "", "".join(self._said))

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # MLflow prints, too
                answer: dict[str, Any] = json.loads(line)
                return answer
        self._listener.join(1)
        raise RuntimeError(f"the process has ended:\n{''.join(self._said)}")

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self._said.extend(self.process.stderr)

    def _finish(self) -> None:
        self._watchdog.cancel()
        self._listener.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Starter:
    """Starts processes that sample often and send at once, and ends those that are left.

    Args:
        launcher: Starts them.
        tracking_uri: Their server, or the gate before it.
        store_uri: The server's database.
    """

    def __init__(self, launcher: Launcher, tracking_uri: str, store_uri: str) -> None:
        self._store_uri = store_uri
        self._spool = launcher.folder / "spool"
        variables = {
            "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
            "MLFLOW_SYSMETRICS_SPOOL_DIR": str(self._spool),
            "MLFLOW_EXPERIMENT_NAME": "Default",
        }
        self._launcher = replace(launcher, tracking_uri=tracking_uri, variables=variables)
        self._started = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._started.close()

    def __call__(self, **variables: str) -> CommandedRun:
        """Start one."""
        run = self._started.enter_context(CommandedRun(self._launcher, **variables))
        run.ask("flush_always")
        return run

    def upload(self) -> Outcome:
        """Run `mlflow-sysmetrics upload`."""
        return self._launcher.run(UPLOAD, providers=None)

    @property
    def spooled(self) -> list[Path]:
        """The files in the spool."""
        return list(self._spool.glob("*"))

    def samples_of(self, run: CommandedRun) -> list[Sample]:
        """The samples that the store has of the last run."""
        return stored_samples(self._store_uri, run.opened[-1].run_id)

    def tags_of(self, run: CommandedRun) -> dict[str, str]:
        """The tags that the store has of the last run."""
        return stored_tags(self._store_uri, run.opened[-1].run_id)

    def wait_for_samples(self, run: CommandedRun, count: int = 2) -> None:
        """Wait until the store has so many."""
        eventually(lambda: len(self.samples_of(run)) >= count)
