"""What sampling GPUs costs: NVML calls and CPU time, over eight described GPUs and the real ones.

    python benchmarks/gpu_cost.py [--quick] [--json]

For Linux, in an environment with this package and nvidia-ml-py, from a checkout: the described
GPUs are the tests'. The time inside NVML, or inside what stands in for it, is told apart from our
own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pynvml

import report
from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes.fake_nvml import FakeNvml, h100

_DESCRIBED = 8


class CountedNvml(ModuleType):
    """A module like pynvml, and how often and how long its functions were called.

    Args:
        pynvml: What is called.

    Attributes:
        calls: Calls so far.
        inside_s: Time spent in them.
    """

    def __init__(self, pynvml: ModuleType) -> None:
        super().__init__("pynvml")
        self.calls = 0
        self.inside_s = 0.0
        self._pynvml = pynvml

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever pynvml has there
        found = getattr(self._pynvml, name)
        if not name.startswith("nvml") or not callable(found):
            return found

        def counted(*arguments: Any) -> Any:  # noqa: ANN401 - as pynvml
            self.calls += 1
            began_s = time.perf_counter()
            try:
                return found(*arguments)
            finally:
                self.inside_s += time.perf_counter() - began_s

        return counted


@dataclass(frozen=True)
class CountedHost(Host):
    """A host whose NVML is counted."""

    nvml: CountedNvml | None = None

    def load_nvml(self) -> ModuleType:
        """The counted module."""
        assert self.nvml is not None  # noqa: S101 - for the type checker
        return self.nvml


@dataclass(frozen=True)
class Cost:
    """What a tick costs, the median of many.

    Attributes:
        gpus: Which GPUs.
        calls: Calls of NVML's functions.
        readings: Readings that came of them.
        own_cpu_ms: CPU time of ours.
        inside_ms: Time within NVML.
    """

    gpus: str
    calls: int
    readings: int
    own_cpu_ms: float
    inside_ms: float


def measure(gpus: str, pynvml: ModuleType, ticks: int) -> Cost:
    """Sample so many times.

    Raises:
        Unavailable: There is no GPU to ask.
    """
    nvml = CountedNvml(pynvml)
    environ = {"MLFLOW_SYSMETRICS_GPUS": "all"}
    collector = open_nvidia(CountedHost(environ=environ, nvml=nvml))
    collector.collect()  # what is not supported is asked only now
    calls, own_s, inside_s = [], [], []
    for _ in range(ticks):
        nvml.calls, nvml.inside_s = 0, 0.0
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        readings = collector.collect()
        cpu_s, wall_s = time.thread_time() - began_cpu_s, time.perf_counter() - began_s
        calls.append(nvml.calls)
        inside_s.append(nvml.inside_s)
        own_s.append(min(cpu_s, wall_s - nvml.inside_s))
    collector.close()
    return Cost(
        gpus,
        round(statistics.median(calls)),
        len(readings),
        statistics.median(own_s) * 1e3,
        statistics.median(inside_s) * 1e3,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few ticks, to see that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    ticks = 20 if arguments.quick else 500
    costs = [
        measure(f"{_DESCRIBED} simulated H100", FakeNvml(*map(h100, range(_DESCRIBED))), ticks)
    ]
    try:
        costs.append(measure("the real ones", pynvml, min(ticks, 50)))
    except Unavailable as reason:
        print(f"no real GPU: {reason}", file=sys.stderr)
    about = report.machine() | report.versions("nvidia-ml-py", "mlflow-sysmetrics")
    if arguments.json:
        found = {"machine": about, "results": [asdict(cost) for cost in costs]}
        print(json.dumps(found, indent=2))
        return
    print("| GPUs | NVML calls a tick | Readings | CPU time of ours, ms | Within NVML, ms |")
    print("| --- | --- | --- | --- | --- |")
    for cost in costs:
        print(
            f"| {cost.gpus} | {cost.calls} | {cost.readings} | {cost.own_cpu_ms:.2f} "
            f"| {cost.inside_ms:.2f} |"
        )
    print(f"\n{report.in_one_line(about)}")


if __name__ == "__main__":
    main()
