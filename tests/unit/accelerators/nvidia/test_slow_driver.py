"""A driver that takes seconds to answer, beside a collector that does not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fakes.fake_nvml import load_gpu
from fakes.simulation import LONG_S, join_threads
from mlflow_sysmetrics.accelerators.nvidia.collector import open_nvidia
from mlflow_sysmetrics.collectors.cpu import open_cpu
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling import runners
from mlflow_sysmetrics.sampling.collectors import COLLECTORS
from mlflow_sysmetrics.sampling.runner import BlockingCollector
from mlflow_sysmetrics.sampling.runners import CollectorSet

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from fakes.fake_nvml import FakeNvml
    from mlflow_sysmetrics.sampling.runners import Openers

    Install = Callable[..., FakeNvml]


def test_a_slow_call_delays_no_other_collector_and_is_reported_later(
    install_nvml: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "PATIENCE_S", 0.01)
    nvml = install_nvml(load_gpu("slow"))
    slept_s: list[float] = []
    awake = threading.Event()

    def sleep(seconds: float) -> None:
        slept_s.append(seconds)
        assert awake.wait(LONG_S)

    nvml.sleep = sleep
    openers: Openers = [("nvidia", BlockingCollector(open_nvidia)), ("cpu", open_cpu)]
    collectors = CollectorSet(Host(environ={}), lambda: openers)

    for _ in range(3):
        (cpu, _cost) = collectors.collect()
        assert "cpu_busy_seconds" in cpu.values
    awake.set()
    join_threads("mlflow-sysmetrics-slow")
    late, *_ = (each for each in collectors.collect() if "gpu_0_power_usage_watts" in each.values)
    join_threads("mlflow-sysmetrics-slow")
    collectors.close()

    assert late.values["gpu_0_power_usage_watts"] == 350.0
    assert set(slept_s) == {3.0}


def test_nvidia_is_asked_in_a_thread_of_its_own() -> None:
    assert isinstance(dict(COLLECTORS)["nvidia"], BlockingCollector)
