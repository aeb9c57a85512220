"""Static facts, one subject a file: Host -> tags.

A fact raises `Unavailable` if the host lacks its subject, and leaves an unknown value empty:
neither makes a tag. All keys are in `catalog.TAGS`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.facts import read_gpus
from mlflow_sysmetrics.facts.container import read_container, read_virtualization
from mlflow_sysmetrics.facts.cpu import (
    read_cpu,
    read_cpu_cores,
    read_cpu_limit,
    read_cpu_physical_cores,
)
from mlflow_sysmetrics.facts.disk import read_disk
from mlflow_sysmetrics.facts.memory import read_memory, read_memory_limit
from mlflow_sysmetrics.facts.probes import Probes
from mlflow_sysmetrics.facts.scheduler import read_gpu_allocation, read_kubernetes, read_slurm
from mlflow_sysmetrics.facts.system import read_os, read_system
from mlflow_sysmetrics.host.forks import after_fork_in_child
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.log.text import clean
from mlflow_sysmetrics.settings import Settings, matches_any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_sysmetrics.facts.probes import Fact, Outcome

FACTS: tuple[Fact, ...] = (
    ("cpu", read_cpu),
    ("cpu_cores", read_cpu_cores),
    ("cpu_physical_cores", read_cpu_physical_cores),
    ("cpu_limit", read_cpu_limit),
    ("memory", read_memory),
    ("memory_limit", read_memory_limit),
    ("disk", read_disk),
    ("system", read_system),
    ("os", read_os),
    ("gpu", read_gpus),
    ("container", read_container),
    ("virtualization", read_virtualization),
    ("kubernetes", read_kubernetes),
    ("slurm", read_slurm),
    ("gpu_allocation", read_gpu_allocation),
)
"""Name and reader of each fact, in the order in which they are shown."""

_MAX_ERROR_LENGTH = 500  # of one fact, so that none crowds out the others

FACTS_BUDGET_S = 2.0
"""How long all facts together may delay the first run of a process."""

_DISK: Fact = ("disk", read_disk)


def host_tags(
    budget_s: float = FACTS_BUDGET_S, exclude: tuple[str, ...] | None = None
) -> dict[str, str]:
    """The tags of this machine.

    Facts that cannot change are read once per process; free disk space is read at every call. A
    call waits at most `budget_s` for each of the two. A fact that answers later is in later calls,
    and one that failed for want of a resource, such as file descriptors, is read again. Safe to
    call from several threads and in a forked child.

    Args:
        budget_s: Longest time to wait for the facts.
        exclude: Globs of the tags to leave out; None for MLFLOW_SYSMETRICS_EXCLUDE_TAGS.
    """
    static, disk = _this_machine.probes(budget_s), Probes([_DISK], Host(), budget_s)
    for probes in (static, disk):
        probes.wait()
    outcomes = static.outcomes() | disk.outcomes()
    excluded = Settings.from_env().exclude_tags if exclude is None else exclude
    tags = tags_of(outcomes[name] for name, _ in FACTS)
    return {key: value for key, value in tags.items() if not matches_any(key, excluded)}


def known_tags() -> dict[str, str]:
    """Those of `host_tags` that do not change and are known by now; waits for nothing."""
    excluded = Settings.from_env().exclude_tags
    tags = tags_of(_this_machine.probes(FACTS_BUDGET_S).outcomes().values())
    tags.pop("sysmetrics.error", None)  # what is late is no error here
    return {key: value for key, value in tags.items() if not matches_any(key, excluded)}


def tags_of(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """The tags of facts, as every store accepts them; `sysmetrics.error` names failed facts."""
    tags: dict[str, str] = {}
    errors = []
    for outcome in outcomes:
        tags.update(outcome.tags)
        if outcome.error:
            errors.append(clean(outcome.error, _MAX_ERROR_LENGTH))
    tags["sysmetrics.error"] = "; ".join(errors)
    return {key: text for key, value in tags.items() if (text := clean(value))}


class _ThisMachine:
    """The facts of this machine, read once per process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._probes: Probes | None = None

    def probes(self, budget_s: float) -> Probes:
        with self._lock:
            if self._probes is not None:
                self._probes.read_again()
            else:
                static = (fact for fact in FACTS if fact != _DISK)
                self._probes = Probes(static, Host(), budget_s)
            return self._probes

    def after_fork(self) -> None:
        """Keep complete facts; restart reading if a thread, which no child inherits, was at it."""
        self._lock = threading.RLock()
        if self._probes is not None and not self._probes.is_settled:
            self._probes = None


_this_machine = _ThisMachine()

after_fork_in_child(_this_machine.after_fork)
