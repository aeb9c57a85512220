"""What taking one sample costs: ours, the bare reads, MLflow's own metrics and psutil, in one run.

    python benchmarks/sampling_cost.py [--quick] [--json]

For Linux, in an environment with mlflow and this package. All ways take turns at the same trees of
processes; what is compared is the median of the CPU time that a sample takes. It lasts about a
minute and keeps one core partly busy; progress goes to stderr, the table to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import report
from trees import running_tree
from ways import ways_of_sampling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Scenario:
    """What is sampled.

    Attributes:
        title: As it stands in the table.
        children: Processes below the root; without, the root is the benchmark itself.
        busy: Each child works between two samples, and somewhere on the host a process is born.
        unrelated: Processes outside the tree.
    """

    title: str
    children: int
    busy: bool = False
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
        Scenario("one process", 0),
        Scenario("64 idle children", 64),
        Scenario("64 busy children", 64, busy=True),
        Scenario("64 busy children, 300 others", 64, busy=True, unrelated=300),
    ),
)

QUICK = Plan(
    rounds=5,
    pause_s=0.02,
    scenarios=(
        Scenario("one process", 0),
        Scenario("2 busy children, 3 others", 2, busy=True, unrelated=3),
    ),
)


@dataclass(frozen=True)
class Result:
    """What one scenario gave.

    Attributes:
        title: The scenario's.
        median_ms: CPU time of a sample, by way.
        values: How many values a sample has, by way; of the bare reads how many files.
    """

    title: str
    median_ms: Mapping[str, float]
    values: Mapping[str, int]

    def ratio(self, way: str, other: str) -> float:
        """How many times as much one way takes as another."""
        return self.median_ms[way] / self.median_ms[other]


def measure(scenario: Scenario, plan: Plan) -> Result:
    """Run one scenario.

    Raises:
        RuntimeError: A way did not see the processes that there are.
    """
    with ExitStack() as trees:
        root_pid = os.getpid()
        if scenario.unrelated:
            trees.enter_context(running_tree(scenario.unrelated - 1))
        if scenario.children:
            root_pid = trees.enter_context(running_tree(scenario.children, busy=scenario.busy))
        ways = ways_of_sampling(root_pid)
        costs_s: dict[str, list[float]] = {way.name: [] for way in ways}
        values: dict[str, int] = {}
        for number in range(-1, plan.rounds):
            if scenario.busy:
                subprocess.run(["true"], check=True)  # noqa: S607 - whichever `true` there is
            time.sleep(plan.pause_s)
            first = number % len(ways)  # nobody is always the one who finds the caches warm
            for way in (*ways[first:], *ways[:first]):
                cost_s, seen = way.cost_s()
                if seen.processes not in {None, scenario.children + 1}:
                    raise RuntimeError(f"{way.name} saw {seen.processes} processes in {scenario}")
                values[way.name] = seen.values
                if number >= 0:  # the first look at a tree is another matter
                    costs_s[way.name].append(cost_s)
    median_ms = {name: statistics.median(costs) * 1e3 for name, costs in costs_s.items()}
    return Result(scenario.title, median_ms, values)


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    return report.table(
        (
            "CPU ms a sample",
            "bare reads (files)",
            "MLflow: all (metrics)",
            "ours: all (metrics)",
            "ours / bare",
            "ours / MLflow",
            "psutil: tree",
            "ours: tree",
            "ours / psutil",
        ),
        (
            (
                result.title,
                *(
                    f"{result.median_ms[way]:.2f} ({result.values[way]})"
                    for way in ("bare", "mlflow", "ours")
                ),
                f"{result.ratio('ours', 'bare'):.1f}",
                f"{result.ratio('ours', 'mlflow'):.2f}",
                f"{result.median_ms['psutil_tree']:.2f}",
                f"{result.median_ms['ours_tree']:.2f}",
                f"{result.ratio('ours_tree', 'psutil_tree'):.2f}",
            )
            for result in results
        ),
    )


NOTES = """\
Medians of the CPU time that one sample takes, in whichever thread, all ways taking turns.
bare reads    the files that one sample of ours reads, by descriptors kept open, and one statvfs;
              nothing is parsed
MLflow: all   its CPU, memory, disk and network metrics; it has no process tree
ours: all     every collector of this package but the GPUs', the process tree included
ours: tree    the process tree alone: memory, CPU, I/O, threads, descriptors
psutil: tree  the same figures by children(recursive=True) and oneshot(), with kept handles
one process   the benchmark's own, which is at work; elsewhere the root is idle
busy          each child works between samples, and processes are born on the host
USS and PSS are left out: they are read so seldom that they take 0.02 % of one core at most."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description="Compare what taking one sample costs: ours, bare reads, MLflow, psutil."
    )
    parser.add_argument(
        "--quick", action="store_true", help="see that it works; the figures mean nothing"
    )
    parser.add_argument("--json", action="store_true", help="print JSON rather than a table")
    arguments = parser.parse_args()
    if platform.system() != "Linux":
        parser.error("this benchmark is for Linux")
    plan = QUICK if arguments.quick else FULL
    results = []
    for scenario in plan.scenarios:
        print(f"{scenario.title} ...", file=sys.stderr, flush=True)
        results.append(measure(scenario, plan))
    about = report.machine() | report.versions("mlflow-skinny", "psutil", "mlflow-sysmetrics")
    if arguments.json:
        found = {"machine": about, "results": [asdict(result) for result in results]}
        print(json.dumps(found, indent=2))
    else:
        print(f"{table(results)}\n\n{NOTES}\n\n{report.in_one_line(about)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
