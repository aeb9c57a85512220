"""The container runtime around the process, from the marks that it leaves inside."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.host.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.host.host import Host

SERVICE_ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"

_MARKS = (
    (SERVICE_ACCOUNT, "kubernetes"),
    ("run/.containerenv", "podman"),
    (".dockerenv", "docker"),
)

_BY_CGROUP = (
    (re.compile(r"/kubepods"), "kubernetes"),
    (re.compile(r"/libpod-"), "podman"),
    (re.compile(r"/docker/|/docker-[0-9a-f]{12}"), "docker"),
    (re.compile(r"/lxc/|/lxc\.payload"), "lxc"),
)

_MANAGER = re.compile(r"[a-z][a-z0-9-]{1,30}")


def read_container(host: Host) -> str:
    """The runtime's name.

    Raises:
        Unavailable: In no container, or in one that leaves no mark.
    """
    name = (
        _name_by_environment(host.environ)
        or next((name for mark, name in _MARKS if _exists(host, mark)), "")
        or _name_by_manager(host)
        or name_by_cgroup(host.read_text_or_empty("proc/self/cgroup"))
    )
    if not name:
        raise Unavailable("no container shows itself")
    return name


def is_in_kubernetes(host: Host) -> bool:
    """Whether the process runs in a pod."""
    return "KUBERNETES_SERVICE_HOST" in host.environ or _exists(host, SERVICE_ACCOUNT)


def _name_by_environment(environ: Mapping[str, str]) -> str:
    # Apptainer goes first: it may itself run in a pod, but nothing runs in it.
    if "APPTAINER_CONTAINER" in environ:
        return "apptainer"
    if "SINGULARITY_CONTAINER" in environ:
        return "singularity"
    return "kubernetes" if "KUBERNETES_SERVICE_HOST" in environ else ""


def _name_by_manager(host: Host) -> str:
    """The `$container` that systemd and LXC hand to the first process.

    WSL sets it too, but is a virtual machine.
    """
    name = host.read_text_or_empty("run/systemd/container")
    name = name or name_by_environ_block(host.read_text_or_empty("proc/1/environ"))
    return name if _MANAGER.fullmatch(name) and name != "wsl" else ""


def name_by_environ_block(block: str) -> str:
    """The variable `container` of a process's environment; empty where it is not set.

    TERM=linux␀container=lxc␀PATH=/usr/bin␀
    """
    variables = (variable.partition("=") for variable in block.split("\0"))
    return next((value for name, _, value in variables if name == "container"), "")


def name_by_cgroup(text: str) -> str:
    """The runtime by the names of its groups in /proc/self/cgroup; empty where they name none.

    12:memory:/docker/0f6d1c1e5a4bcd2f…
    0::/system.slice/docker-0f6d1c1e5a4bcd2f….scope
    """
    return next((name for pattern, name in _BY_CGROUP if pattern.search(text)), "")


def _exists(host: Host, path: str) -> bool:
    return os.path.exists(host.root / path)  # noqa: PTH110 - Path.exists raises where forbidden
