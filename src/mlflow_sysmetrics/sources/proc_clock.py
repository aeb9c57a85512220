"""CPU time of any process by the kernel's clock of it, a twentieth of what reading /proc costs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_CPUCLOCK_SCHED = 2  # in the lowest bits of a clock's id, see clock_getcpuclockid(3)


def process_clock_ns(pid: int) -> int | None:
    """CPU time of a process and all its threads; None where it has ended.

    To the nanosecond: where it stands still, the process has done nothing at all.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return None


def has_cpu_clocks(host: Host) -> bool:
    """Whether per-process CPU clocks work here, at nanosecond resolution."""
    if not shares_pids(host):
        return False
    first_ns = process_clock_ns(os.getpid())
    return first_ns is not None and first_ns != process_clock_ns(os.getpid())


def shares_pids(host: Host) -> bool:
    """Whether pids in this /proc are valid in system calls.

    They are not where it is recorded, or that of another pid namespace.
    """
    try:
        own = os.readlink("/proc/self")  # noqa: PTH115 - as strings are wanted
    except OSError:
        return False
    return host.root == Path("/") and own == str(os.getpid())
