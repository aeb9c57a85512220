"""What sampling costs, and what it loses: this plugin beside the alternatives, in one run.

    python3 benchmarks/compare.py [--quick] [--only SUBJECT ...] [--json] [--list]

For Linux. It makes an environment for each (`.venv-compare-*`, a few minutes the first time; some
4 GB in all), runs an MLflow server of its own, and takes some ten minutes. Progress goes to stderr,
the table to stdout. stouputils needs Python 3.12: where there is none, its columns are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # the server is the tests'

from _environment import ScriptError, run_main
from comparison import ending, growing, importing, losing, opening, sampling, stalling
from comparison.contenders import contenders, has_stouputils, prepare, switch_to_newer_python
from comparison.lab import Lab
from comparison.relay import relays_to
from comparison.report import as_json, table, versions
from integration.servers import ServerError, TrackingServer
from report import in_one_line, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from comparison.contenders import Contender
    from comparison.lab import Row

SUBJECTS: Mapping[str, tuple[str, Callable[[Lab], list[Row]]]] = {
    "sample": ("CPU time, HTTP requests and bytes of a sample", sampling.measure),
    "open": ("opening and closing a run", opening.measure),
    "import": ("own import time", importing.measure),
    "stalls": ("what a loop of the training's own loses", stalling.measure),
    "end": ("the end of a run, server well, just back, and gone", ending.measure),
    "outage": ("samples lost in an outage", losing.measure),
    "memory": ("memory growth", growing.measure),
}
"""What each subject is about, and who measures it; in the order of the table."""

NOTES = """\
Medians. (2.0x): twice what the other takes: for CPU time MLflow's monitor, for opening and
closing MLflow that writes the same tags by hand, for the end of a run MLflow alone, else this
plugin. (1-2): lowest and highest round. ~: the rounds overlap those of MLflow alone, so no
difference can be told. The loop's figure is the time that its thread neither ran nor waited for a
CPU; the CPUs are kept awake, and the contenders take turns. Elsewhere a sample is due every second,
and is sent to an MLflow server over HTTP. CPU times are those of the process and of what it starts
beside its children. "These three" are MLflow's monitor, mlflow-sysmetrics 0.1.3 and stouputils in
one run: together they tell most of what this plugin does. stouputils thins what it stores as little
as it can (deadband=0). wandb keeps its runs on disk (offline), so it sends nothing while the run
lasts. While the server is gone MLflow tries a request 3 times again; by default it tries 7 times,
which takes minutes."""


def main() -> int:
    """Measure and print."""
    parser = _parser()
    options = parser.parse_args()
    if options.list:
        for name, (about, _) in SUBJECTS.items():
            print(f"{name:8}{about}")
        return 0
    if platform.system() != "Linux":
        parser.error("this benchmark is for Linux")
    switch_to_newer_python()
    if not has_stouputils():
        print("There is no Python 3.12 on PATH: without stouputils.", file=sys.stderr)
    players = contenders()
    prepare(players)
    where = {**machine(), "load average before": round(os.getloadavg()[0], 2)}
    what = versions(players)
    try:
        rows = _measure(players, options.only or list(SUBJECTS), quick=options.quick)
    except ServerError as error:
        raise ScriptError(str(error)) from error
    where["load average after"] = round(os.getloadavg()[0], 2)
    if options.json:
        print(json.dumps(as_json(rows, where, what), indent=2))
    else:
        print(f"{table(rows, players)}\n\n{NOTES}\n")
        print(in_one_line(where))
        for title, found in what.items():
            print(f"- {title}: {found}")
    return 0


def _measure(players: Sequence[Contender], subjects: Sequence[str], *, quick: bool) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        folder = Path(name)
        server_folder = folder / "server"
        server_folder.mkdir()
        store_uri = f"sqlite:///{server_folder}/mlflow.db"
        with (
            TrackingServer(server_folder, store_uri, players[0].environment.python) as server,
            relays_to(server.address) as relays,
        ):
            lab = Lab(players, quick, folder, server.address, relays)
            for subject in subjects:
                print(f"{subject} ...", file=sys.stderr, flush=True)
                rows += SUBJECTS[subject][1](lab)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compare what this plugin and its alternatives cost, and what they lose."
    )
    parser.add_argument(
        "--quick", action="store_true", help="see that it works; the figures mean nothing"
    )
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, help="measure these alone")
    parser.add_argument("--list", action="store_true", help="list the subjects")
    parser.add_argument("--json", action="store_true", help="print JSON rather than a table")
    return parser


if __name__ == "__main__":
    run_main(main)
