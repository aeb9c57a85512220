"""Limits and pressure over recorded hosts; `cgroup.json` beside each tree has the readings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.catalog import METRICS, metrics_of
from mlflow_sysmetrics.collectors.container import open_container
from mlflow_sysmetrics.collectors.pressure import open_pressure
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.window import Readings, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.collectors.contract import Collector

DATA = Path(__file__).parents[2] / "data/hosts"
HOSTS = sorted(path.parent for path in DATA.glob("*/cgroup.json"))
OPENERS = {"container": open_container, "pressure": open_pressure}

each_host = pytest.mark.parametrize("root", HOSTS, ids=lambda root: root.name)
each_opener = pytest.mark.parametrize(("name", "opener"), OPENERS.items())


def host_at(root: Path) -> Host:
    return Host(root=root, system="Linux", environ={})


@pytest.fixture
def docker(tmp_path: Path) -> Host:
    """A copy of a host, to be changed."""
    shutil.copytree(DATA / "docker-v2", tmp_path / "docker")
    return host_at(tmp_path / "docker")


@each_host
@each_opener
def test_readings_of_a_recorded_host(
    root: Path, name: str, opener: Callable[[Host], Collector]
) -> None:
    golden = json.loads((root / "cgroup.json").read_text())[name]
    if golden is None:
        with pytest.raises(Unavailable):
            opener(host_at(root))
    else:
        assert opener(host_at(root)).collect() == pytest.approx(golden)


@each_opener
def test_readings_are_of_the_catalog(name: str, opener: Callable[[Host], Collector]) -> None:
    readings = opener(host_at(DATA / "docker-v2")).collect()
    divisors = {metric.per for metric in METRICS}

    assert all(metrics_of(reading) or reading in divisors for reading in readings)


@pytest.mark.parametrize("opener", [open_container])
def test_only_linux_has_cgroups(opener: Callable[[Host], Collector]) -> None:
    with pytest.raises(Unavailable):
        opener(Host(root=DATA / "docker-v2", system="Darwin"))


def test_metrics_of_a_window(docker: Host) -> None:
    """10 seconds in which some task waited for a CPU for 4, and half of the periods struck."""
    collectors: list[Collector] = [open_container(docker), open_pressure(docker)]
    window = Window()
    window.add([Readings(0.0, each.collect()) for each in collectors])

    change(docker, "sys/fs/cgroup/cpu.stat", "nr_periods 12000", "nr_periods 12100")
    change(docker, "sys/fs/cgroup/cpu.stat", "nr_throttled 3456", "nr_throttled 3506")
    change(docker, "sys/fs/cgroup/cpu.stat", "throttled_usec 99887766", "throttled_usec 104887766")
    change(docker, "sys/fs/cgroup/memory.events", "oom_kill 1", "oom_kill 3")
    change(docker, "sys/fs/cgroup/cpu.pressure", "total=400000", "total=4400000")
    change(docker, "proc/pressure/io", "total=60000", "total=1060000")
    window.add([Readings(10.0, each.collect()) for each in collectors])

    metrics = window.close()
    assert metrics["container/cpu_throttled_percentage"] == 50
    assert metrics["container/cpu_throttled_cores"] == pytest.approx(0.5)
    assert metrics["container/oom_kills"] == 2
    assert metrics["container/memory_usage_megabytes"] == 3000
    assert metrics["container/pressure_cpu_some_percentage"] == pytest.approx(40)
    assert metrics["pressure/io_full_percentage"] == pytest.approx(10)
    assert metrics["pressure/memory_some_percentage"] == 0


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ("memory.events", {"memory_usage_megabytes", "memory_usage_percentage"}),
        ("memory.stat", {"oom_kills"}),
        ("memory.current", {"oom_kills"}),
    ],
)
def test_a_file_that_is_gone_costs_what_it_tells(docker: Host, gone: str, left: set[str]) -> None:
    collector = open_container(docker)
    (docker.root / "sys/fs/cgroup" / gone).unlink()

    cpu = {
        "container/cpu_periods",
        "container/cpu_throttled_periods",
        "container/cpu_throttled_seconds",
    }
    assert collector.collect().keys() == {f"container/{name}" for name in left} | cpu


def test_a_quota_that_is_gone_costs_only_throttling(docker: Host) -> None:
    collector = open_container(docker)
    (docker.root / "sys/fs/cgroup/cpu.stat").unlink()

    assert "container/memory_usage_megabytes" in collector.collect()
    assert "container/cpu_periods" not in collector.collect()


def test_pressure_of_one_resource_may_be_all_there_is(docker: Host) -> None:
    for path in docker.root.glob("**/*pressure/*"):
        if path.name != "memory":
            path.unlink()
    for path in docker.root.glob("sys/fs/cgroup/*.pressure"):
        path.unlink()

    assert open_pressure(docker).collect().keys() == {
        "pressure/memory_some_stalled_microseconds",
        "pressure/memory_full_stalled_microseconds",
    }


def test_the_topmost_cgroup_is_the_host_and_not_told_twice(docker: Host) -> None:
    (docker.root / "sys/fs/cgroup/cgroup.type").unlink()

    assert all(name.startswith("pressure/") for name in open_pressure(docker).collect())


def change(host: Host, path: str, old: str, new: str) -> None:
    text = host.read_text(path)
    assert old in text
    (host.root / path).write_text(text.replace(old, new))


def test_a_system_without_proc_has_no_pressure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.O_CLOEXEC", raising=False)  # as on Windows

    with pytest.raises(Unavailable, match="no pressure"):
        open_pressure(Host(root=tmp_path, system="Windows"))
