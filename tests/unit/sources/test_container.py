from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.container import SERVICE_ACCOUNT, read_container

if TYPE_CHECKING:
    from pathlib import Path

CGROUP = "proc/self/cgroup"
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
ID = "0f6d1c1e5a4bcd2f"


@pytest.mark.parametrize(
    ("files", "environ", "name"),
    [
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": ""}, {}, "podman"),
        ({".dockerenv": ""}, POD, "kubernetes"),
        ({f"{SERVICE_ACCOUNT}/namespace": "ml"}, {}, "kubernetes"),
        ({}, POD | {"APPTAINER_CONTAINER": "/train.sif"}, "apptainer"),
        ({}, {"SINGULARITY_CONTAINER": "/train.sif"}, "singularity"),
        ({"run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({"proc/1/environ": "TERM=linux\0container=lxc\0PATH=/usr/bin\0"}, {}, "lxc"),
        ({CGROUP: f"12:memory:/docker/{ID}\n"}, {}, "docker"),
        ({CGROUP: f"0::/system.slice/docker-{ID}.scope\n"}, {}, "docker"),
        ({CGROUP: f"0::/kubepods.slice/kubepods-pod1.slice/cri-{ID}.scope\n"}, {}, "kubernetes"),
        ({CGROUP: f"0::/machine.slice/libpod-{ID}.scope/container\n"}, {}, "podman"),
        ({CGROUP: "0::/lxc.payload.train/user.slice\n"}, {}, "lxc"),
    ],
)
def test_a_container_shows_itself(
    files: dict[str, str], environ: dict[str, str], name: str, tmp_path: Path
) -> None:
    assert read_container(_host(tmp_path, files, environ)) == name


@pytest.mark.parametrize(
    "files",
    [
        {},
        {CGROUP: "0::/system.slice/docker.service\n"},
        {CGROUP: "0::/user.slice/user-1000.slice/session-3.scope\n"},
        {"proc/1/environ": "TERM=linux\0container=wsl\0"},
        {"proc/1/environ": "container=not a name\0"},
    ],
)
def test_outside_a_container_nothing_does(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="container"):
        read_container(_host(tmp_path, files, {}))


def _host(root: Path, files: dict[str, str], environ: dict[str, str]) -> Host:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Host(root=root, system="Linux", environ=environ)
