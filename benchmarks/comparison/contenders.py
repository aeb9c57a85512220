"""Who is compared: each in an environment of its own, all on one Python and one MLflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from _environment import ROOT, Environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_STOUPUTILS_PYTHON = (3, 12)
_OLD = "mlflow-sysmetrics==0.1.3"


@dataclass(frozen=True)
class Contender:
    """One way of logging system metrics, or none.

    Attributes:
        name: What it is called in JSON and in the program that plays it (`worker.py`).
        title: Heading of its column.
        environment: Where it is installed.
        samples: Whether it takes samples.
        uses_server: Whether what it takes goes to an MLflow server.
        variables: Environment variables that switch it on.
    """

    name: str
    title: str
    environment: Environment
    samples: bool = True
    uses_server: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)

    def versions(self) -> dict[str, str]:
        """Versions of what is compared, by distribution."""
        names = ("mlflow", "mlflow-sysmetrics", "stouputils", "wandb", "psutil")
        code = (
            "import importlib.metadata as m, json, sys\n"
            "found = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
            "print(json.dumps({n: found[n] for n in sys.argv[1:] if n in found}))"
        )
        command = [str(self.environment.python), "-c", code, *names]
        found: dict[str, str] = json.loads(subprocess.check_output(command))
        return found


def has_stouputils() -> bool:
    """Whether this Python is new enough for it."""
    return sys.version_info >= _STOUPUTILS_PYTHON


def contenders() -> Sequence[Contender]:
    """All that this Python can run, in the order of their columns."""
    stouputils = ["stouputils"] if has_stouputils() else []
    # MLflow brings psutil no more, and its monitor needs it.
    bare = _environment("bare", "mlflow", "psutil", *stouputils)
    old = _environment("0.1.3", "mlflow", _OLD, *stouputils)
    found = [
        Contender("bare", "MLflow alone", bare, samples=False),
        Contender("tags", "MLflow, tags by hand", bare, samples=False),
        Contender("mlflow", "MLflow's monitor", bare),
        Contender("old", "0.1.3 (tags)", old, samples=False),
    ]
    if stouputils:
        found += [
            Contender("stouputils", "stouputils", bare),
            Contender("three", "these three", old),
        ]
    both = {"MLFLOW_RUN_CONTEXT_PROVIDER": "sysmetrics,sysmonitor"}
    ours = Environment(ROOT / ".venv-compare-ours", ("mlflow",))
    return [
        *found,
        Contender("wandb", "wandb offline", _environment("wandb", "wandb"), uses_server=False),
        Contender("ours", "this plugin", ours, variables=both),
    ]


def prepare(players: Iterable[Contender]) -> None:
    """Make the environments, or bring them up to date; says so on stderr."""
    with redirect_stdout(sys.stderr):
        for environment in dict.fromkeys(each.environment for each in players):
            environment.prepare()


def switch_to_newer_python() -> None:
    """Go on under the Python that stouputils needs, where there is one on PATH."""
    if has_stouputils():
        return
    for name in ("python3.12", "python3.13"):
        found = shutil.which(name)
        if found and _runs(found):
            os.execv(found, [found, *sys.argv])  # noqa: S606 - that is what is wanted


def _runs(python: str) -> bool:
    """Whether it does: what pyenv puts on PATH need not."""
    return not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode


def _environment(name: str, *requirements: str) -> Environment:
    return Environment(ROOT / f".venv-compare-{name}", requirements, has_package=False)
