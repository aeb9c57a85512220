"""Which job a process belongs to, and as which of its ranks, by the launcher's variables."""

from __future__ import annotations

import getpass
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_sysmetrics.distributed.launchers import LAUNCHERS
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_sysmetrics.distributed.launchers import Launcher

JOB_TAG = "sysmetrics.job"
"""Of the run that rank 0 opens: the job's key, a point, and which process that was."""

_KEY_LENGTH = 16
_MOST_DIGITS = 9


@dataclass(frozen=True)
class Job:
    """The job of a process, and its place in it.

    Attributes:
        launcher: Who started it.
        rank: Number of the process; None where the launcher does not tell.
        size: How many processes the job has.
        nodes: How many hosts the launcher counts.
        node: Number of the host; None where the launcher does not tell.
        key: The same for all processes of the job, hashed; None where nothing names the job.
        recurs: Whether a later job, or one elsewhere, may have the same key.
    """

    launcher: Launcher
    rank: int | None
    size: int
    nodes: int
    node: int | None
    key: str | None
    recurs: bool


def read_job(environ: Mapping[str, str]) -> Job | None:
    """The job that these variables name; None where they name none, or one of one process."""
    launcher = next((each for each in LAUNCHERS if each.has_started(environ)), None)
    if launcher is None:
        return None
    size = _number(environ, launcher.size)
    if size is None or size < 2:  # noqa: PLR2004 - one process is no job
        return None
    rank = _number(environ, launcher.rank)
    node = _number(environ, launcher.node)
    if launcher.name == "Lightning":
        rank = _rank_of_lightning(environ, node)
    local_size = _number(environ, launcher.local_size)
    nodes = _number(environ, launcher.nodes) or _nodes(size, local_size, node)
    if node is None and nodes > 1:
        node = _node(rank, _number(environ, launcher.local_rank), local_size, nodes)
    unique = _values(environ, launcher.ids, launcher.no_ids)
    ids = unique or _values(environ, launcher.recurring_ids, launcher.no_ids)
    key = _key(launcher.name, ids, environ) if ids else None
    return Job(launcher, rank, size, nodes, node, key, recurs=not unique)


def _number(environ: Mapping[str, str], names: Sequence[str]) -> int | None:
    for name in names:
        text = environ.get(name, "").strip()
        if text.isdecimal() and text.isascii() and len(text) <= _MOST_DIGITS:
            return int(text)
    return None


def _values(
    environ: Mapping[str, str], names: Sequence[str], no_ids: Sequence[str]
) -> tuple[str, ...]:
    """The values that name a job; none unless at least the first is there, and says something."""
    values = tuple(environ.get(name, "") for name in names)
    if not any(values) or any(value in no_ids for value in values):
        return ()
    return values


def _rank_of_lightning(environ: Mapping[str, str], node: int | None) -> int | None:
    """Only that of the process which starts the others can be told: 0."""
    is_first = node == 0 and _number(environ, ("LOCAL_RANK",)) == 0
    return 0 if is_first else None


def _nodes(size: int, local_size: int | None, node: int | None) -> int:
    """How many hosts there are at least, where the launcher does not tell."""
    by_size = -(-size // local_size) if local_size else 1
    return max(by_size, (node or 0) + 1)


def _node(
    rank: int | None, local_rank: int | None, local_size: int | None, nodes: int
) -> int | None:
    """A host's number by its ranks: dealt host by host (0 1 | 2 3), or in turns (0 2 | 1 3)."""
    if rank is None or local_rank is None or not local_size:
        return None
    first = rank - local_rank
    if first >= 0 and first % local_size == 0 and first // local_size < nodes:
        return first // local_size
    in_turns = rank - local_rank * nodes
    return in_turns if 0 <= in_turns < nodes else None


def _key(launcher: str, ids: Sequence[str], environ: Mapping[str, str]) -> str:
    parts = (launcher, _user(), _namespace(environ), *ids)
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:_KEY_LENGTH]


def _user() -> str:
    """The user's number, which is the same on all hosts of a cluster; their name on Windows."""
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def _namespace(environ: Mapping[str, str]) -> str:
    """Kubernetes' namespace: in containers, everybody is the same user."""
    from mlflow_sysmetrics.facts.scheduler import read_kubernetes  # noqa: PLC0415 - heavy

    with suppress(Unavailable):
        return read_kubernetes(Host(environ=environ))["sys.k8s_namespace"]
    return ""
