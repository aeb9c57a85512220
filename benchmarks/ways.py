"""Ways of taking one sample of a process tree and its host: ours and the others'."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from mlflow_sysmetrics.collectors.process_tree import open_process_tree
from mlflow_sysmetrics.host.clock import Clock
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.collectors import COLLECTORS
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sources.proc_tree import ProcTree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_sysmetrics.collectors.process_tree import ProcessTreeCollector

NUM_PROCESSES = "process/num_processes"


class Way(NamedTuple):
    """One way of sampling.

    Attributes:
        name: What it is called in the results.
        sample: Takes a sample; how many processes it saw, None where it looks at none.
        is_expensive: Whether it is to be measured less often.
    """

    name: str
    sample: Callable[[], int | None]
    is_expensive: bool = False

    def cost_s(self) -> tuple[float, int | None]:
        """CPU time that one sample takes, and how many processes it saw."""
        began_s = time.thread_time()
        seen = self.sample()
        return time.thread_time() - began_s, seen


def ways_of_sampling(root_pid: int) -> Sequence[Way]:
    """All ways, for the tree of a process. GPUs are left out on every side."""
    return (
        Way("ours", _ours(root_pid)),
        Way("ours_tree", _our_tree(root_pid)),
        Way("ours_uss_pss", _our_private_memory(root_pid), is_expensive=True),
        Way("mlflow", _mlflow()),
        Way("psutil_tree", TreeByPsutil(root_pid).sample),
        Way("psutil_tree_uss", TreeByPsutil(root_pid, with_uss=True).sample, is_expensive=True),
    )


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


def _open_tree(root_pid: int) -> ProcessTreeCollector:
    return open_process_tree(Host(clock=_PacedClock(0), pid=root_pid))


def _ours(root_pid: int) -> Callable[[], int | None]:
    """All collectors of the package; the process tree without USS and PSS."""
    openers = [
        (name, (lambda _: _open_tree(root_pid)) if name == "process_tree" else opener)
        for name, opener in COLLECTORS
        if name != "nvidia"
    ]
    collectors = CollectorSet(Host(clock=_PacedClock(100)), lambda: openers)

    def sample() -> int | None:
        readings: dict[str, float] = {}
        for each in collectors.collect():
            readings.update(each.values)
        return int(readings[NUM_PROCESSES])

    return sample


def _our_tree(root_pid: int) -> Callable[[], int | None]:
    """The process tree alone, without USS and PSS."""
    collector = _open_tree(root_pid)
    return lambda: int(collector.collect()[NUM_PROCESSES])


def _our_private_memory(root_pid: int) -> Callable[[], int | None]:
    """One reading of USS and PSS alone."""
    tree = ProcTree(Host(), root_pid)
    processes = len(tree.sample())

    def sample() -> int | None:
        if tree.private_memory() is None:
            raise RuntimeError("this kernel reports no USS and PSS (smaps_rollup)")
        return processes

    return sample


def _mlflow() -> Callable[[], int | None]:
    """MLflow's own monitors, which know no processes."""
    kinds: Sequence[Callable[[], Any]] = (CPUMonitor, DiskMonitor, NetworkMonitor)
    monitors = [kind() for kind in kinds]

    def sample() -> int | None:
        for monitor in monitors:
            monitor.collect_metrics()
            monitor.clear_metrics()
        return None

    return sample


class TreeByPsutil:
    """A tree as it is usually read with psutil: handles are kept, each process is asked at once.

    Args:
        root_pid: The root.
        with_uss: Whether USS is asked for too.
    """

    def __init__(self, root_pid: int, *, with_uss: bool = False) -> None:
        self._root = psutil.Process(root_pid)
        self._handles: dict[psutil.Process, psutil.Process] = {}
        self._with_uss = with_uss

    def sample(self) -> int:
        """Read every process, and tell how many they are."""
        found = (self._root, *self._root.children(recursive=True))
        self._handles = {process: self._handles.get(process, process) for process in found}
        for process in self._handles.values():
            with process.oneshot():
                process.cpu_times()
                process.memory_full_info() if self._with_uss else process.memory_info()
                process.num_threads()
                process.num_fds()
                process.io_counters()
        return len(self._handles)
