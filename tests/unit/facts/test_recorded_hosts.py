"""Golden tags of recorded hosts: `facts.json` beside each tree says what the tree cannot."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.catalog import TAGS
from mlflow_sysmetrics.facts import FACTS, tags_of
from mlflow_sysmetrics.facts.probes import Probes
from mlflow_sysmetrics.host.errors import Absent
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources.cgroup import Limits

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

HOSTS = sorted(path.parent for path in Path(__file__).parents[2].glob("data/hosts/*/facts.json"))


@pytest.mark.parametrize("root", HOSTS, ids=lambda root: root.name)
def test_tags_of_a_recorded_host(
    root: Path, tmp_path: Path, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = json.loads((root / "facts.json").read_text())
    _pretend(recorded, mocker)
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi

    host = Host(root=root, system="Linux", environ=recorded["environ"])
    probes = Probes(FACTS, host, budget_s=60.0)
    probes.wait()
    tags = tags_of(probes.outcomes().values())

    assert tags == recorded["tags"]
    assert tags.keys() <= {tag.key for tag in TAGS}


def test_there_are_recorded_hosts() -> None:
    assert len(HOSTS) >= 4


def _pretend(recorded: dict[str, Any], mocker: MockerFixture) -> None:
    """Let Python, psutil, the cgroup reader and NVML tell what they told on that host."""
    for name in ("platform", "release", "machine", "node", "python_version"):
        mocker.patch(f"platform.{name}", return_value=recorded[name])
    mocker.patch("os.cpu_count", return_value=recorded["cpu_count"])
    mocker.patch("psutil.cpu_count", return_value=recorded["physical_cores"])
    usage = SimpleNamespace(free=recorded["disk_free_bytes"], total=recorded["disk_total_bytes"])
    mocker.patch("shutil.disk_usage", return_value=usage)
    limits = Limits(**recorded["limits"])
    mocker.patch("mlflow_sysmetrics.facts.cpu.read_limits", return_value=limits)
    mocker.patch("mlflow_sysmetrics.facts.memory.read_limits", return_value=limits)
    open_nvml = mocker.patch("mlflow_sysmetrics.accelerators.nvidia.vendor.open_nvml")
    if recorded["nvml"] is None:
        absence = Absent("no NVIDIA driver library (libnvidia-ml) on this host")
        open_nvml.side_effect = absence
    else:
        inventory = _inventory(recorded["nvml"])
        vendor = "mlflow_sysmetrics.accelerators.nvidia.vendor"
        mocker.patch(f"{vendor}.read_inventory", return_value=inventory)


def _inventory(recorded: dict[str, Any]) -> Inventory:
    devices = tuple(
        Device(index, device["name"], device["memory_bytes"], uuid=None)
        for index, device in enumerate(recorded["devices"])
    )
    return Inventory(recorded["driver"], recorded["cuda"], devices)
