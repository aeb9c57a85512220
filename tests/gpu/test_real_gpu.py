"""A real NVIDIA GPU: what we read is what `nvidia-smi` shows, while the GPU has work.

Run with `pytest -m gpu`; without a GPU, its driver and `nvidia-smi` these tests fail.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.accelerators.own_processes import open_own_processes
from mlflow_sysmetrics.catalog import metrics_of
from mlflow_sysmetrics.collectors.counters import Integral
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_sysmetrics.accelerators.nvidia.collector import NvidiaCollector

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(180)]

LOAD = Path(__file__).with_name("load.py")
LOAD_BYTES = 512 * 2**20
WARM_UP_S = 5.0

# What nvidia-smi calls it; how far apart two looks may be, as a share of it and in its unit.
SHOWN = {
    "utilization_percentage": ("utilization.gpu", 0.0, 25.0),
    "memory_controller_utilization_percentage": ("utilization.memory", 0.0, 25.0),
    "temperature_celsius": ("temperature.gpu", 0.0, 5.0),
    "memory_temperature_celsius": ("temperature.memory", 0.0, 5.0),
    "power_usage_watts": ("power.draw", 0.25, 10.0),
    "power_limit_watts": ("enforced.power.limit", 0.01, 1.0),
    "sm_clock_megahertz": ("clocks.sm", 0.2, 50.0),
    "memory_clock_megahertz": ("clocks.mem", 0.2, 50.0),
    "fan_speed_percentage": ("fan.speed", 0.0, 15.0),
}


@pytest.fixture
def load() -> Iterator[None]:
    """GPU 0 at work."""
    with subprocess.Popen(
        [sys.executable, LOAD, "0", str(LOAD_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        time.sleep(WARM_UP_S)
        yield
        process.communicate()


@pytest.fixture
def collector() -> Iterator[NvidiaCollector]:
    environ = {"MLFLOW_SYSMETRICS_GPUS": "all", "MLFLOW_SYSMETRICS_GPU_PROFILING": "true"}
    collector = open_nvidia(Host(environ=environ))
    yield collector
    collector.close()


def _nvidia_smi(*fields: str) -> list[str]:
    """What it shows of GPU 0."""
    query = f"--query-gpu={','.join(fields)}"
    output = Host().run(["nvidia-smi", "--id=0", query, "--format=csv,noheader,nounits"], 30.0)
    (row,) = csv.reader([output.strip()], skipinitialspace=True)
    return row


def _why_processes_are_not_told() -> str | None:
    try:
        open_own_processes(Host())
    except Unavailable as reason:
        return str(reason)
    return None


@pytest.mark.usefixtures("load")
def test_what_we_read_is_what_nvidia_smi_shows(collector: NvidiaCollector) -> None:
    collector.collect()
    time.sleep(1.0)
    readings = collector.collect()
    shown = _nvidia_smi(*(name for name, _, _ in SHOWN.values()))

    apart = {}
    for (reading, (_, share, absolute)), text in zip(SHOWN.items(), shown, strict=True):
        ours = readings.get(f"gpu_0_{reading}")
        theirs = float(text) if text.replace(".", "", 1).isdigit() else None
        if ours is None or theirs is None:
            agrees = ours is theirs
        else:
            agrees = abs(ours - theirs) <= share * theirs + absolute
        if not agrees:
            apart[reading] = (ours, text)
    assert not apart
    assert readings["gpu_0_utilization_percentage"] > 50


@pytest.mark.usefixtures("load")
def test_memory_is_what_nvidia_smi_shows_with_the_drivers_own(collector: NvidiaCollector) -> None:
    used, reserved, total = map(
        float, _nvidia_smi("memory.used", "memory.reserved", "memory.total")
    )
    readings = collector.collect()

    ours_mib = readings["gpu_0_memory_usage_megabytes"] * 1e6 / 2**20
    assert ours_mib == pytest.approx(used + reserved, abs=64)
    share = 100 * (used + reserved) / total
    assert readings["gpu_0_memory_usage_percentage"] == pytest.approx(share, abs=1)


@pytest.mark.usefixtures("load")
def test_the_energy_counter_agrees_with_the_power_over_time(collector: NvidiaCollector) -> None:
    integral = Integral()
    began_s = time.monotonic()
    while time.monotonic() - began_s < 30.0:
        readings = collector.collect()
        estimated = integral.update(readings["gpu_0_power_usage_watts"], time.monotonic())
        time.sleep(0.5)

    assert readings["gpu_0/energy_joules"] == pytest.approx(estimated, rel=0.1)


@pytest.mark.usefixtures("load")
def test_the_runs_own_processes_are_told_or_it_is_said_why(collector: NvidiaCollector) -> None:
    time.sleep(1.0)
    readings = collector.collect()

    reason = _why_processes_are_not_told()
    if reason is None:
        assert readings["gpu_0/process_memory_megabytes"] > LOAD_BYTES / 1e6
        assert readings["gpu_0/process_utilization_percentage"] > 0
    else:
        assert not {name for name in readings if "process" in name}
        assert any(reason in note for note in collector.notes())


def test_all_that_is_read_is_in_the_catalog(collector: NvidiaCollector) -> None:
    collector.collect()
    time.sleep(0.2)

    readings = collector.collect()

    assert readings
    assert all(metrics_of(name) for name in readings)
