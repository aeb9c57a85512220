"""What taking one sample costs: ours beside MLflow's own metrics and psutil, in one run.

    python benchmarks/sampling_cost.py [--quick] [--json]

For Linux, in an environment with mlflow and this package. All ways take turns at the same trees of
processes; what is compared is the median of the CPU time that a sample takes. It lasts some two
minutes and keeps one core partly busy; progress goes to stderr, the table to stdout.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil

import report
from trees import running_tree
from ways import ways_of_sampling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ways import Way

_DEAR_APART = 5
"""Dear ways take their turn in every so many rounds."""


@dataclass(frozen=True)
class Scenario:
    """What is sampled.

    Attributes:
        title: As it stands in the table.
        children: Processes below the root.
        busy: Each child works between two samples, and somewhere on the host a process is born.
        touched_bytes: Resident memory of the root, beyond that of an idle interpreter.
        unrelated: Processes outside the tree.
    """

    title: str
    children: int
    busy: bool = False
    touched_bytes: int = 0
    unrelated: int = 0


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: How often each way has its turn, in each scenario.
        pause_s: Time between two rounds.
        scenarios: What is sampled.
    """

    rounds: int
    pause_s: float
    scenarios: Sequence[Scenario]


FULL = Plan(
    rounds=80,
    pause_s=0.1,
    scenarios=(
        Scenario("1 child", 1),
        Scenario("16 children", 16),
        Scenario("64 children", 64),
        Scenario("64 busy children", 64, busy=True),
        Scenario("root of 2 GB", 0, touched_bytes=2 * 10**9),
        Scenario("64 children, 300 others", 64, unrelated=300),
        Scenario("64 busy children, 300 others", 64, busy=True, unrelated=300),
    ),
)

QUICK = Plan(
    rounds=5,
    pause_s=0.02,
    scenarios=(
        Scenario("1 child", 1),
        Scenario("2 busy children, 3 others", 2, busy=True, unrelated=3),
        Scenario("root of 20 MB", 0, touched_bytes=2 * 10**7),
    ),
)

COLUMNS = {
    "ours": "ours: all",
    "ours_tree": "ours: tree",
    "ours_uss_pss": "ours: USS, PSS",
    "mlflow": "MLflow: all",
    "psutil_tree": "psutil: tree",
    "psutil_tree_uss": "psutil: tree, USS",
}
"""Heading of each way's column."""


@dataclass(frozen=True)
class Result:
    """What one scenario gave.

    Attributes:
        title: The scenario's.
        median_ms: CPU time of a sample, by way.
        tree_ratio: How many times as much psutil takes for the tree.
        all_ratio: How many times as much MLflow's metrics and the tree by psutil take together.
    """

    title: str
    median_ms: Mapping[str, float]
    tree_ratio: float
    all_ratio: float


def measure(scenario: Scenario, plan: Plan) -> Result:
    """Run one scenario.

    Raises:
        RuntimeError: A way did not see the processes that there are.
    """
    with ExitStack() as trees:
        if scenario.unrelated:
            trees.enter_context(running_tree(scenario.unrelated - 1))
        root_pid = trees.enter_context(
            running_tree(
                scenario.children, busy=scenario.busy, touched_bytes=scenario.touched_bytes
            )
        )
        costs_s = _costs_s(ways_of_sampling(root_pid), scenario, plan)
    median_ms = {name: statistics.median(costs) * 1e3 for name, costs in costs_s.items()}
    usual_ms = median_ms["mlflow"] + median_ms["psutil_tree"]
    return Result(
        scenario.title,
        median_ms,
        tree_ratio=median_ms["psutil_tree"] / median_ms["ours_tree"],
        all_ratio=usual_ms / median_ms["ours"],
    )


def _costs_s(ways: Sequence[Way], scenario: Scenario, plan: Plan) -> dict[str, list[float]]:
    """CPU time of every sample, by way."""
    costs_s: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(-1, plan.rounds):
        if scenario.busy:
            subprocess.run(["true"], check=True)  # noqa: S607 - whichever `true` there is
        time.sleep(plan.pause_s)
        first = number % len(ways)  # nobody is always the one who finds the caches warm
        for way in (*ways[first:], *ways[:first]):
            if way.is_expensive and number % _DEAR_APART:
                continue
            cost_s, seen = way.cost_s()
            if seen not in {None, scenario.children + 1}:
                raise RuntimeError(f"{way.name} saw {seen} processes in {scenario}")
            if number >= 0:  # the first look at a tree is another matter
                costs_s[way.name].append(cost_s)
    return costs_s


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    header = ("CPU ms a sample", *COLUMNS.values(), "tree ratio", "all ratio")
    return report.table(
        header,
        (
            (
                result.title,
                *(f"{result.median_ms[name]:.2f}" for name in COLUMNS),
                f"{result.tree_ratio:.1f}",
                f"{result.all_ratio:.1f}",
            )
            for result in results
        ),
    )


NOTES = """\
Medians of the CPU time that one sample takes, all ways taking turns.
ours: all       every collector of this package but the GPU's, the process tree included
ours: tree      the process tree alone: memory, CPU, I/O, threads, descriptors
ours: USS, PSS  one reading of them; made so seldom that they take 0.05 % of one core at most
MLflow: all     its CPU, memory, disk and network metrics; it has no process tree
psutil: tree    the same figures by children(recursive=True) and oneshot(), with kept handles
tree ratio      psutil: tree / ours: tree
all ratio       (MLflow: all + psutil: tree) / ours: all
busy            each child works between samples, and processes are born on the host"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description="Compare what taking one sample costs: ours, MLflow's own metrics, psutil."
    )
    parser.add_argument(
        "--quick", action="store_true", help="see that it works; the figures mean nothing"
    )
    parser.add_argument("--json", action="store_true", help="print JSON rather than a table")
    arguments = parser.parse_args()
    if platform.system() != "Linux":
        parser.error("this benchmark is for Linux")
    results = _results(QUICK if arguments.quick else FULL)
    about = report.machine() | report.versions("mlflow-skinny", "psutil", "mlflow-sysmetrics")
    if arguments.json:
        found = {"machine": about, "results": [asdict(result) for result in results]}
        print(json.dumps(found, indent=2))
    else:
        print(f"{table(results)}\n\n{NOTES}\n\n{report.in_one_line(about)}")
    return 0


def _results(plan: Plan) -> list[Result]:
    """Every scenario that the machine has the memory for."""
    results = []
    for scenario in plan.scenarios:
        if 1.5 * scenario.touched_bytes > psutil.virtual_memory().available:
            print(f"{scenario.title}: left out for want of memory", file=sys.stderr)
            continue
        print(f"{scenario.title} ...", file=sys.stderr, flush=True)
        results.append(measure(scenario, plan))
    return results


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
