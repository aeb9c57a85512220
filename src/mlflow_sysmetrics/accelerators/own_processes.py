"""Which of the processes that a driver lists are the run's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Transient, Unavailable, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import psutil

    from mlflow_sysmetrics.host.host import Host

_HOSTS_PID_NAMESPACE = "pid:[4026531836]"
"""The namespace in which a machine starts: Linux gives it this number always."""


class OwnProcesses:
    """Tells whether a process belongs to the run: a root, or a descendant of one.

    What was once counted stays counted, also when its parent has ended.

    Args:
        root_pid: The process that the run is of.
        more_roots: Gives further processes that belong to the run, such as a job's launcher.
    """

    def __init__(self, root_pid: int, more_roots: Callable[[], Collection[int]] = tuple) -> None:
        self._root_pid = root_pid
        self._more_roots = more_roots
        self._known_for: frozenset[int] = frozenset()
        self._known: dict[int, tuple[float, bool]] = {}  # when it started, whether it belongs

    def has(self, pid: int) -> bool:
        """Whether a process belongs to the run; False if it has ended.

        Raises:
            OSError: For want of descriptors, for example.
        """
        import psutil  # noqa: PLC0415 - facts import this module, and need no psutil

        roots = frozenset((self._root_pid, *self._more_roots()))
        if roots != self._known_for:  # a stranger may be another rank's
            self._known_for = roots
            self._known = {each: known for each, known in self._known.items() if known[1]}
        try:
            process = psutil.Process(pid)
            started_s = process.create_time()
            known = self._known.get(pid)
            if known is None or known[0] != started_s:  # otherwise its number was given out anew
                known = self._known[pid] = (started_s, _descends(process, roots))
        except psutil.Error:
            self._known.pop(pid, None)
            return False
        return known[1]


def _descends(process: psutil.Process, roots: Collection[int]) -> bool:
    return process.pid in roots or any(parent.pid in roots for parent in process.parents())


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
    return OwnProcesses(os.getpid() if host.pid is None else host.pid, host.more_roots)
