"""Ways of taking one sample of a process tree and its host: ours and the others'.

    python benchmarks/ways.py PID

Run as a program, it prints the files that one sample of ours reads of that tree; 0 is the program.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from bare_reads import BareReads, files_read_by
from mlflow_sysmetrics.host.clock import Clock
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.collectors import COLLECTORS
from mlflow_sysmetrics.sampling.runners import CollectorSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NUM_PROCESSES = "process/num_processes"
_TREE = "process_tree"
_GPUS = {"nvidia", "amd", "intel", "apple", "tpu", "neuron"}


class Sample(NamedTuple):
    """What one sample saw.

    Attributes:
        values: How many: readings, MLflow's metrics, or files that were read.
        processes: How many, None where it looks at none.
    """

    values: int
    processes: int | None = None


class Way(NamedTuple):
    """One way of sampling.

    Attributes:
        name: What it is called in the results.
        sample: Takes a sample.
    """

    name: str
    sample: Callable[[], Sample]

    def cost_s(self) -> tuple[float, Sample]:
        """CPU time that one sample takes, in whichever thread, and what it saw."""
        began_s = time.process_time()
        seen = self.sample()
        return time.process_time() - began_s, seen


def ways_of_sampling(root_pid: int) -> Sequence[Way]:
    """All ways, for the tree of a process. GPUs are left out on every side."""
    return (
        Way("bare", _bare(root_pid)),
        Way("ours", _ours(root_pid)),
        Way("ours_tree", _ours(root_pid, only_tree=True)),
        Way("mlflow", _mlflow()),
        Way("psutil_tree", TreeByPsutil(root_pid).sample),
    )


def _bare(root_pid: int) -> Callable[[], Sample]:
    """Bare reads of the files that a sample of ours reads."""
    pid = 0 if root_pid == os.getpid() else root_pid
    command = [sys.executable, __file__, str(pid)]
    reads = BareReads(subprocess.check_output(command, text=True).splitlines())

    def sample() -> Sample:
        reads.read()
        return Sample(len(reads.descriptors))

    return sample


class _PacedClock(Clock):
    """Runs so many times as fast as time does.

    Collectors that cost too much for the time that passes are asked less often. That must not
    happen here, where samples are much closer together than in a run; but with no time passing,
    USS and PSS, once read, are not due again.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began_s = super().now_s()

    def now_s(self) -> float:
        return self._began_s + self._speed * (super().now_s() - self._began_s)


def _ours(root_pid: int, *, only_tree: bool = False) -> Callable[[], Sample]:
    """All collectors of the package, or the process tree alone; without USS and PSS."""
    by_name: Mapping[str, Callable[[Host], Any]] = dict(COLLECTORS)
    tree_host = Host(clock=_PacedClock(0), pid=root_pid)
    openers = [
        (name, (lambda _: by_name[_TREE](tree_host)) if name == _TREE else opener)
        for name, opener in by_name.items()
        if (name == _TREE if only_tree else name not in _GPUS)
    ]
    collectors = CollectorSet(Host(clock=_PacedClock(100)), lambda: openers)

    def sample() -> Sample:
        readings: dict[str, float] = {}
        for each in collectors.collect():
            readings.update(each.values)
        return Sample(len(readings), int(readings[NUM_PROCESSES]))

    return sample


def _mlflow() -> Callable[[], Sample]:
    """MLflow's own monitors, which know no processes."""
    kinds: Sequence[Callable[[], Any]] = (CPUMonitor, DiskMonitor, NetworkMonitor)
    monitors = [kind() for kind in kinds]

    def sample() -> Sample:
        metrics = 0
        for monitor in monitors:
            monitor.collect_metrics()
            metrics += len(monitor.metrics)
            monitor.clear_metrics()
        return Sample(metrics)

    return sample


class TreeByPsutil:
    """A tree as it is usually read with psutil: handles are kept, each process is asked at once.

    Args:
        root_pid: The root.
    """

    def __init__(self, root_pid: int) -> None:
        self._root = psutil.Process(root_pid)
        self._handles: dict[psutil.Process, psutil.Process] = {}

    def sample(self) -> Sample:
        """Read every process."""
        found = (self._root, *self._root.children(recursive=True))
        self._handles = {process: self._handles.get(process, process) for process in found}
        for process in self._handles.values():
            with process.oneshot():
                process.cpu_times()
                process.memory_info()
                process.num_threads()
                process.num_fds()
                process.io_counters()
        return Sample(values=7, processes=len(self._handles))


if __name__ == "__main__":
    pid = int(sys.argv[1]) or os.getpid()
    print("\n".join(files_read_by(lambda: _ours(pid))))
