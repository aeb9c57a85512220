"""What importing a contender costs, beside what `import mlflow` costs anyhow."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from _environment import clean_environ
from comparison.lab import Row, say

if TYPE_CHECKING:
    from comparison.contenders import Contender
    from comparison.lab import Lab

_IMPORTS = {
    "old": "mlflow",  # MLflow loads it
    "ours": "mlflow",
    "stouputils": "mlflow, stouputils.mlflow.process_metrics_monitor",
    "wandb": "wandb",
}


def measure(lab: Lab) -> list[Row]:
    """Time in modules that plain MLflow does not import: the sum of `python -X importtime`."""
    say("imports")
    by_name = {each.name: each for each in lab.contenders}
    modules = _self_times_ms(by_name["bare"], "mlflow").keys() if "bare" in by_name else set()
    took: dict[str, list[float]] = {name: [] for name in _IMPORTS if name in by_name}
    for _ in range(1 if lab.quick else 5):
        for name, values in took.items():
            found = _self_times_ms(by_name[name], _IMPORTS[name])
            values.append(sum(ms for module, ms in found.items() if module not in modules))
    return [Row("own import time", "ms", took, "ours")]


def _self_times_ms(contender: Contender, modules: str) -> dict[str, float]:
    """How long each module took without those that it imports.

    A line on stderr is `import time:       314 |       1159 | collections`.
    """
    done = subprocess.run(
        [contender.environment.python, "-X", "importtime", "-c", f"import {modules}"],
        env=clean_environ(**contender.variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = {}
    for line in done.stderr.splitlines():
        head, _, rest = line.partition(":")
        self_us, _, rest = rest.partition("|")
        if head == "import time" and self_us.strip().isdecimal():
            found[rest.partition("|")[2].strip()] = int(self_us) / 1e3
    return found
