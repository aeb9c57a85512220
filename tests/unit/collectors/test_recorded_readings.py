"""Readings over recorded hosts; `host.json` beside each tree has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.collectors.cpu import open_cpu
from mlflow_sysmetrics.collectors.disk import open_disk
from mlflow_sysmetrics.collectors.memory import open_memory
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.collectors.contract import Collector

OPENERS = {"cpu": open_cpu, "memory": open_memory, "disk": open_disk}
SPACE = {"disk_usage_percentage", "disk_usage_megabytes", "disk_available_megabytes"}
HOSTS = sorted(path.parent for path in Path(__file__).parents[2].glob("data/hosts/*/host.json"))


@pytest.mark.parametrize("root", HOSTS, ids=lambda root: root.name)
@pytest.mark.parametrize(("name", "opener"), OPENERS.items())
def test_readings_of_a_recorded_host(
    root: Path, name: str, opener: Callable[[Host], Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for space, which cannot be recorded, and counters, which start at 0."""
    monkeypatch.chdir("/")
    golden = json.loads((root / "host.json").read_text())

    readings = opener(Host(root=root, system="Linux", environ={})).collect()

    told = {key: value for key, value in readings.items() if key not in SPACE}
    assert told == pytest.approx(golden[name])


def test_there_are_recorded_hosts() -> None:
    assert len(HOSTS) >= 4
