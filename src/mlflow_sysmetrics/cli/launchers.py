"""Commands that start the work elsewhere and wait for it: their own tree shows next to nothing."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WATCH = "mlflow-sysmetrics watch"

_WRAPPERS = frozenset(("env", "exec", "nice", "nohup", "setsid", "stdbuf", "time", "command"))
_SHELLS = frozenset(("sh", "bash", "dash", "ksh", "zsh"))

_ELSEWHERE = {
    "srun": "srun OPTIONS",
    "jsrun": "jsrun OPTIONS",
    "aprun": "aprun OPTIONS",
    "sbatch": None,
    "qsub": None,
    "bsub": None,
    "condor_submit": None,
    "ssh": "ssh HOST",
}
"""What to write before `watch`; None where it goes into the script that is handed in."""

_ELSEWHERE_BY_VERB = {
    ("ray", "job"): "ray job submit OPTIONS --",
    ("kubectl", "run"): "kubectl run OPTIONS --",
    ("kubectl", "exec"): "kubectl exec OPTIONS --",
    ("kubectl", "create"): None,
    ("kubectl", "apply"): None,
    ("docker", "run"): "docker run OPTIONS IMAGE",
    ("docker", "exec"): "docker exec OPTIONS CONTAINER",
    ("podman", "run"): "podman run OPTIONS IMAGE",
    ("podman", "exec"): "podman exec OPTIONS CONTAINER",
    ("flux", "run"): "flux run OPTIONS",
    ("flux", "submit"): "flux submit OPTIONS",
}

_MPI = frozenset(("mpirun", "mpiexec", "orterun", "prterun", "prun", "horovodrun"))
_MPI_HOSTS = frozenset(
    ("-H", "-host", "--host", "-hosts", "--hosts", "-hostfile", "--hostfile", "-machinefile")
)
_NODE_COUNTS = ("SLURM_NNODES", "SLURM_JOB_NUM_NODES", "PBS_NUM_NODES")

_TORCH = frozenset(("torchrun", "torch.distributed.run", "torch.distributed.launch"))
_ONE_NODE = frozenset(("1", "1:1"))


def advice_for(command: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """What to write instead, where a command's processes are not, or not all, its children.

    Args:
        command: The watched command.
        environ: Its environment, which says whether the job has several nodes.

    Returns:
        A sentence or two; None where the command's own tree is right.
    """
    words = _without_wrappers(command)
    if not words:
        return None
    name = os.path.basename(words[0])  # noqa: PTH119 - of a word, not of a file
    verbs = {key: words for key, words in _ELSEWHERE_BY_VERB.items() if key[0] == name}
    for (_, verb), prefix in verbs.items():
        if verb in words[1:4]:  # options of the command itself may come before
            return _elsewhere(f"{name} {verb}", prefix)
    if name in _ELSEWHERE:
        return _elsewhere(name, _ELSEWHERE[name])
    if name in _MPI and (_MPI_HOSTS & set(words) or _has_nodes(environ)):
        return _other_nodes(name, f"{name} OPTIONS {_WATCH} --run-id RUN_ID -- COMMAND")
    if _TORCH & {name, *words[1:3]} and _torch_nodes(words) not in _ONE_NODE:
        return _other_nodes(name, f"{_WATCH} --run-id RUN_ID -- {name} …")
    return None


def _elsewhere(name: str, prefix: str | None) -> str:
    begin = f"`{name}` does not run the training in its own process tree: what is watched is idle. "
    if prefix is None:
        return f"{begin}Write `{_WATCH} -- COMMAND` into the script or the spec that it hands in."
    return f"{begin}Write `{prefix} {_WATCH} -- COMMAND` instead."


def _other_nodes(name: str, instead: str) -> str:
    return (
        f"`{name}` is watched on this host alone; processes on other nodes are not counted. For a "
        f"job on several nodes, let `{instead}` run on each, with a name of its own for each in "
        "MLFLOW_SYSTEM_METRICS_NODE_ID."
    )


def _without_wrappers(command: Sequence[str]) -> list[str]:
    """The words from the command itself on: without `env A=1`, `nohup`, `bash -c '…'`."""
    words = list(command)
    while words:
        name = os.path.basename(words[0])  # noqa: PTH119 - as above
        if name in _SHELLS and "-c" in words[1:3] and len(words) > words.index("-c") + 1:
            try:
                words = shlex.split(words[words.index("-c") + 1])
            except ValueError:  # no closing quotation
                return []
        elif name in _WRAPPERS or re.fullmatch(r"\w+=.*", words[0]):
            words = words[1:]
            while words and words[0].startswith("-"):
                words = words[1:]
        else:
            break
    return words


def _has_nodes(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name, "1") not in {"", "0", "1"} for name in _NODE_COUNTS)


def _torch_nodes(words: Sequence[str]) -> str:
    """The value of `--nnodes`, such as `2` or `1:4`."""
    for at, word in enumerate(words):
        option, _, value = word.replace("_", "-").partition("=")
        if option == "--nnodes":
            return value or (words[at + 1] if at + 1 < len(words) else "1")
    return "1"
