"""A rank of a distributed training, of which rank 0 opens a run; it does what files tell it.

Files in the folder TOLD, by which the test leads all ranks:
    measure        tell what /proc says of the ranks of this host, in rank-N.json
    kill-N         rank N is killed; kill-holder-on-HOST: whichever rank there has a sampler
    end            come to the end
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import psutil

TOLD = Path(os.environ["TOLD"])
_NUMBERS = ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
_MEGABYTE = 1_000_000


def own_rank() -> int:
    """As the launcher says."""
    return next(int(os.environ[name]) for name in _NUMBERS if name in os.environ)


def work(rank: int, until: str = "end") -> None:
    """Be busy with nothing until the test says that it is enough."""
    host, measured = socket.gethostname(), False
    while not (TOLD / until).exists() and not (TOLD / "end").exists():
        victims = [f"kill-{rank}"]
        victims += [f"kill-holder-on-{host}"] if samples() else []
        for victim in victims:
            if (TOLD / victim).exists():
                (TOLD / victim).rename(TOLD / f"did-{victim}")  # what replaces it shall live
                os.kill(os.getpid(), signal.SIGKILL)
        if not measured and (TOLD / "measure").exists():
            measured = True
            tell(f"rank-{rank}", {"rank": rank, "host": host, **measure()})
        time.sleep(0.05)


def measure() -> dict[str, Any]:
    """This process with its children, and its parent with all of its own."""
    own = psutil.Process()
    parent = own.parent()
    return {
        "pid": own.pid,
        "samples": samples(),
        "own": _tree(own),
        "parent": None if parent is None else _tree(parent),
        "began_s": own.create_time(),
    }


def _tree(root: psutil.Process) -> dict[str, Any]:
    family = [root, *root.children(recursive=True)]
    return {
        "processes": len(family),
        "rss_megabytes": sum(each.memory_info().rss for each in family) / _MEGABYTE,
        "time_s": time.time(),
    }


def samples() -> bool:
    """Whether this process has sent samples, and so takes them for its host."""
    return any(thread.name == "mlflow-sysmetrics-uploader" for thread in threading.enumerate())


def tell(name: str, what: object) -> None:
    """Leave word for the test, whole or not at all."""
    draft = TOLD / f"{name}.{os.getpid()}"
    draft.write_text(json.dumps(what))
    draft.rename(TOLD / f"{name}.json")


def main() -> None:
    """Train."""
    rank = own_rank()
    ballast = os.urandom((rank + 1) * 20 * _MEGABYTE)
    later_s = float(os.environ.get("OPENS_AFTER_S", "0"))
    if rank == 0:
        time.sleep(later_s)
        with mlflow.start_run(run_name=os.environ.get("RUN_NAME")):
            work(rank)
            if "FAILS" in os.environ:
                sys.exit(3)
    else:
        work(rank)
    del ballast


if __name__ == "__main__":
    main()
