"""What a process and all that descend from it use, as far as the run is concerned."""

from __future__ import annotations

import os
import time
from functools import cache, partial
from typing import TYPE_CHECKING

from mlflow_sysmetrics.collectors.contract import Collector
from mlflow_sysmetrics.collectors.memory import read_total_memory
from mlflow_sysmetrics.collectors.rate_limit import CpuBudget
from mlflow_sysmetrics.collectors.subjects import Subjects
from mlflow_sysmetrics.collectors.tree_totals import TreeTotals
from mlflow_sysmetrics.host.errors import Transient
from mlflow_sysmetrics.sources.cgroup import read_cpu_count, read_limits
from mlflow_sysmetrics.sources.proc_tree import ProcTree
from mlflow_sysmetrics.sources.psutil_tree import PsutilTree

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.host.clock import Clock
    from mlflow_sysmetrics.host.host import Host
    from mlflow_sysmetrics.sources.process_use import ProcessSource, ProcessUse

PRIVATE_MEMORY_SHARE = 0.0005
"""CPU seconds a second that reading USS and PSS may take."""

_AT_ONCE_S = 0.1
"""What the first and the last reading of USS and PSS may cost beyond that share."""

_COST_S_PER_BYTE = 25e-12
"""What reading USS and PSS is taken to cost for each resident byte before it was measured."""


class ProcessTreeCollector(Collector):
    """Gauges and counters of a process tree.

    Args:
        source: Lists the processes.
        cpus: CPUs that the tree may use.
        memory_bytes: Tells how much memory the tree may use.
        clock: Tells how much time has passed.
    """

    def __init__(
        self,
        source: ProcessSource,
        cpus: float,
        memory_bytes: Callable[[], float],
        clock: Clock,
    ) -> None:
        self._source = source
        self._cpus = cpus
        self._memory_bytes = memory_bytes
        self._subjects = Subjects()
        self._clock = clock
        self._totals = TreeTotals(source.now(), inherits_io=source.inherits_io)
        self._private_budget = CpuBudget(PRIVATE_MEMORY_SHARE, clock.now_s(), _AT_ONCE_S)
        self._cost_s_per_byte = _COST_S_PER_BYTE
        self._last_is_next = False

    def expect_last(self) -> None:
        """The next sample is the run's last: it has USS and PSS unless they are very dear."""
        self._last_is_next = True

    def collect(self) -> dict[str, float]:
        """Megabytes and counts, and counters in seconds and bytes since the first sample.

        USS and PSS are there once their cost allows, descriptors and storage where some process
        of the tree reports them. Of a root that has ended, and that nobody has waited for yet,
        the counters come once more.

        Raises:
            Unavailable: The root has ended; so it stays.
        """
        uses = self._source.sample()
        self._totals.update(uses, self._source.whole_cpu_s())
        if not uses[0].threads:
            return self._counters()
        return {
            **self._gauges(uses),
            **self._counters(),
            **self._subjects.read("the tree's memory", partial(self._memory, uses)),
            **self._subjects.read("the tree's USS and PSS", partial(self._private_memory, uses)),
        }

    def notes(self) -> list[str]:
        """What it does not report, and why."""
        return self._subjects.notes()

    def _gauges(self, uses: list[ProcessUse]) -> dict[str, float]:
        fds = [use.fds for use in uses if use.fds is not None]
        gauges: dict[str, float] = {
            "process/num_processes": sum(use.threads > 0 for use in uses),
            "process/num_threads": sum(use.threads for use in uses),
        }
        return gauges | {"process/num_fds": sum(fds)} if fds else gauges

    def _memory(self, uses: list[ProcessUse]) -> dict[str, float]:
        """Sums over the tree.

        Raises:
            Transient: That of one process cannot be read now: a sum would be too small.
        """
        rss = [use.rss_bytes for use in uses if use.rss_bytes is not None]
        vms = [use.vms_bytes for use in uses if use.vms_bytes is not None]
        if len(rss) < len(uses) or len(vms) < len(uses):
            raise Transient("the memory of a process is not reported now")
        readings = {
            "process/memory_rss_megabytes": sum(rss) / 1e6,
            "process/memory_vms_megabytes": sum(vms) / 1e6,
        }
        return readings | self._subjects.read(
            "the memory that the tree may use",
            lambda: {"process/memory_usage_percentage": 100 * sum(rss) / self._memory_bytes()},
        )

    def _counters(self) -> dict[str, float]:
        totals = self._totals
        counters = {
            "process/cpu_seconds": totals.cpu_s,
            "process/cpu_share_seconds": totals.cpu_s / self._cpus,
        }
        if totals.has_io:
            counters["process/io_read_bytes"] = totals.read_bytes
            counters["process/io_write_bytes"] = totals.write_bytes
        return counters

    def _private_memory(self, uses: list[ProcessUse]) -> dict[str, float]:
        """USS and PSS, if they may be read now."""
        rss_bytes = sum(use.rss_bytes or 0 for use in uses)
        last, self._last_is_next = self._last_is_next, False
        cost_s = rss_bytes * self._cost_s_per_byte
        within_share = self._private_budget.allows(cost_s, self._clock.now_s())
        if not within_share and not (last and cost_s <= _AT_ONCE_S):
            return {}
        began_s = time.thread_time()
        memory = self._source.private_memory()
        cost_s = time.thread_time() - began_s
        self._private_budget.spend(cost_s)
        self._cost_s_per_byte = cost_s / max(1, rss_bytes)
        if memory is None:
            return {}
        readings = {"process/memory_uss_megabytes": memory.uss_bytes / 1e6}
        if memory.pss_bytes is not None:
            readings["process/memory_pss_megabytes"] = memory.pss_bytes / 1e6
        return readings


def open_process_tree(
    host: Host,
    *,
    children: bool = True,
    cpus: float | None = None,
    memory_bytes: float | None = None,
) -> ProcessTreeCollector:
    """Open the tree of the host's process.

    Args:
        host: The machine, and the root.
        children: Whether what descends from the root counts.
        cpus: What `process/cpu_share_seconds` is a share of: where None, the CPUs that the
            process may use.
        memory_bytes: What `process/memory_usage_percentage` is a share of: where None, the
            memory that the process may use.

    Raises:
        Unavailable: There is no such process, or none can be read.
    """
    root_pid = _own_pid(host) if host.pid is None else host.pid
    source: ProcessSource
    if host.system == "Linux":
        source = ProcTree(host, root_pid, children=children)
    else:
        source = PsutilTree(root_pid, children=children, more_roots=host.more_roots)
    limits = read_limits(host)
    return ProcessTreeCollector(
        source,
        cpus=cpus or limits.cpus or read_cpu_count(host) or os.cpu_count() or 1,
        memory_bytes=cache(lambda: memory_bytes or limits.memory_bytes or read_total_memory(host)),
        clock=host.clock,
    )


def _own_pid(host: Host) -> int:
    """This process's id, as /proc numbers it: that may be another pid namespace's."""
    try:
        return int((host.procfs / "self").readlink().name)
    except (OSError, ValueError):
        return os.getpid()
