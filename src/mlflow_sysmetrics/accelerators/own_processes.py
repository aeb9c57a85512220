"""Which of the processes that a driver lists are the run's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from mlflow_sysmetrics.host.errors import Transient, Unavailable, unavailable

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_HOSTS_PID_NAMESPACE = "pid:[4026531836]"
"""The namespace in which a machine starts: Linux gives it this number always."""


class OwnProcesses:
    """Tells whether a process is a root or descends from it; once in, it stays in."""

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self._known: dict[int, tuple[float, bool]] = {}  # when it started, whether it is in

    def has(self, pid: int) -> bool:
        """Whether this process is one of the tree; False where it has ended.

        Raises:
            OSError: For want of descriptors, say.
        """
        try:
            process = psutil.Process(pid)
            started_s = process.create_time()
            known = self._known.get(pid)
            if known is None or known[0] != started_s:  # else its number was given out anew
                known = self._known[pid] = (started_s, self._descends(process))
        except psutil.Error:
            self._known.pop(pid, None)
            return False
        return known[1]

    def _descends(self, process: psutil.Process) -> bool:
        if process.pid == self._root_pid:
            return True
        return any(parent.pid == self._root_pid for parent in process.parents())


def find_own_processes(host: Host) -> tuple[OwnProcesses | None, list[str]]:
    """The run's processes, None where they cannot be identified, and what to say of that.

    Raises:
        Transient: They may be identified later.
    """
    try:
        return open_own_processes(host), []
    except Transient:
        raise
    except Unavailable as reason:
        return None, [f"what the run's own processes use of a GPU is not known: {reason}"]


def open_own_processes(host: Host) -> OwnProcesses:
    """Open the tree of the host's process.

    Raises:
        Unavailable: The driver numbers processes otherwise than this process sees them: a number
            that both know would be another process's.
    """
    if host.system == "Linux":
        try:
            namespace = os.readlink(host.procfs / "self/ns/pid")  # noqa: PTH115 - no path
        except OSError as error:
            raise unavailable("the PID namespace cannot be read", error) from error
        if namespace != _HOSTS_PID_NAMESPACE:
            raise Unavailable(
                "this process is in a PID namespace of its own, and the driver reports the host's "
                "process ids; with the host's (docker run --pid=host) they can be matched"
            )
    return OwnProcesses(os.getpid() if host.pid is None else host.pid)
