from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from fakes.fake_nvml import FakeGpu, consumer_card, error, h100, memory
from mlflow_sysmetrics.catalog import metrics_of
from mlflow_sysmetrics.collectors import gpu as gpu_module
from mlflow_sysmetrics.collectors.gpu import LONGEST_PAUSE_S, Counter, open_gpu
from mlflow_sysmetrics.host import Clock, Host, Unavailable
from mlflow_sysmetrics.sources.nvml import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture

    from fakes.fake_nvml import FakeNvml

    Install = Callable[..., FakeNvml]

pytestmark = pytest.mark.usefixtures("nothing_said")

_POWER = "nvmlDeviceGetPowerUsage"


class ClockByHand(Clock):
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s


@pytest.fixture
def clock() -> ClockByHand:
    return ClockByHand()


def test_reads_all_of_a_gpu(install_nvml: Install) -> None:
    install_nvml(h100())

    assert open_gpu(Host()).collect() == {
        "gpu_0_utilization_percentage": 90,
        "gpu_0_memory_usage_megabytes": 20_000.0,
        "gpu_0_memory_usage_percentage": 25.0,
        "gpu_0_power_usage_watts": 350.0,
        "gpu_0_power_usage_percentage": 50.0,
    }


def test_reads_eight_gpus_with_one_call_of_each_kind(install_nvml: Install) -> None:
    nvml = install_nvml(*map(h100, range(8)))
    collector = open_gpu(Host())
    collector.collect()
    nvml.calls.clear()

    readings = collector.collect()

    utilization = [readings[f"gpu_{index}_utilization_percentage"] for index in range(8)]
    assert utilization == [90, 91, 92, 93, 94, 95, 96, 97]
    assert len(readings) == 8 * 5
    assert len(nvml.calls) == len(set(nvml.calls)) == 8 * 4


def test_every_reading_is_in_the_catalog(install_nvml: Install) -> None:
    install_nvml(h100())

    assert all(metrics_of(name) for name in open_gpu(Host()).collect())


def test_what_a_card_lacks_is_left_out(install_nvml: Install) -> None:
    install_nvml(h100(), consumer_card())

    readings = open_gpu(Host()).collect()

    assert {name: value for name, value in readings.items() if name.startswith("gpu_1_")} == {
        "gpu_1_memory_usage_megabytes": 500.0,
        "gpu_1_memory_usage_percentage": 25.0,
        "gpu_1_power_usage_watts": 12.5,
    }
    assert len(readings) == 5 + 3


def test_what_a_card_lacks_is_asked_once_and_said_at_debug_level(
    install_nvml: Install, clock: ClockByHand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    nvml = install_nvml(consumer_card())
    collector = open_gpu(Host(clock=clock))

    for _ in range(5):
        collector.collect()
        clock.time_s += LONGEST_PAUSE_S

    assert nvml.asked("nvmlDeviceGetUtilizationRates", 0) == 1
    assert nvml.asked(_POWER, 0) == 5
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "GPU 0: nvmlDeviceGetUtilizationRates: Not Supported"),
        ("DEBUG", "GPU 0: nvmlDeviceGetEnforcedPowerLimit: Not Supported"),
    ]


def test_a_gpu_lost_in_mid_run_is_warned_about_once(
    install_nvml: Install, clock: ClockByHand, caplog: pytest.LogCaptureFixture
) -> None:
    lost = h100(1)
    install_nvml(h100(0), lost)
    collector = open_gpu(Host(clock=clock))
    whole = collector.collect()

    lost.fails("GPU_IS_LOST")
    for _ in range(5):
        clock.time_s += LONGEST_PAUSE_S
        readings = collector.collect()
        assert readings == {name: whole[name] for name in whole if name.startswith("gpu_0_")}

    assert [record.getMessage() for record in caplog.records] == [
        "mlflow-sysmetrics: GPU 1: GPU is lost; what fails is tried again at growing intervals"
    ]


def test_a_failing_call_is_tried_at_growing_intervals(
    install_nvml: Install, clock: ClockByHand
) -> None:
    gpu = h100()
    gpu.fails("TIMEOUT", [_POWER])
    nvml = install_nvml(gpu)
    collector = open_gpu(Host(clock=clock))

    tried_at_s = []
    for second in range(1000):
        clock.time_s = float(second)
        before = nvml.asked(_POWER, 0)
        collector.collect()
        if nvml.asked(_POWER, 0) > before:
            tried_at_s.append(second)

    assert tried_at_s == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]


def test_a_call_that_recovers_is_read_again_and_forgiven(
    install_nvml: Install, clock: ClockByHand
) -> None:
    gpu = h100()
    answer = gpu.answers[_POWER]
    nvml = install_nvml(gpu)
    collector = open_gpu(Host(clock=clock))
    for _ in range(2):  # pauses of 1 s, then, since it had recovered, of 1 s again
        gpu.answers[_POWER] = error("UNKNOWN")
        collector.collect()
        clock.time_s += 1.0
        gpu.answers[_POWER] = answer
        assert collector.collect()["gpu_0_power_usage_watts"] == 350.0

    assert nvml.asked(_POWER, 0) == 4


def test_a_gpu_whose_handle_is_not_to_be_had_comes_back(
    install_nvml: Install, clock: ClockByHand
) -> None:
    gpu = h100()
    gpu.answers["nvmlDeviceGetHandleByIndex"] = error("GPU_IS_LOST")
    install_nvml(gpu)
    collector = open_gpu(Host(clock=clock))
    assert collector.collect() == {}

    del gpu.answers["nvmlDeviceGetHandleByIndex"]
    clock.time_s += LONGEST_PAUSE_S

    assert len(collector.collect()) == 5


@pytest.mark.parametrize(
    ("function", "answer", "missing"),
    [
        ("nvmlDeviceGetMemoryInfo", memory(used=0, total=0), "gpu_0_memory_usage_percentage"),
        ("nvmlDeviceGetEnforcedPowerLimit", 0, "gpu_0_power_usage_percentage"),
    ],
)
def test_nothing_is_divided_by_a_total_of_zero(
    install_nvml: Install, function: str, answer: object, missing: str
) -> None:
    gpu = h100()
    whole = _readings_of(gpu, install_nvml)
    gpu.answers[function] = answer

    assert whole - _readings_of(gpu, install_nvml) == {missing}


def test_a_gpu_at_rest_reads_zero(install_nvml: Install) -> None:
    gpu = h100()
    gpu.answers[_POWER] = 0
    install_nvml(gpu)

    readings = open_gpu(Host()).collect()

    assert readings["gpu_0_power_usage_watts"] == 0.0
    assert readings["gpu_0_power_usage_percentage"] == 0.0


def test_a_further_counter_is_a_further_row(
    install_nvml: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Counter("temperature_celsius", (Call("nvmlDeviceGetTemperature", (0,)),), float)
    monkeypatch.setattr(gpu_module, "COUNTERS", (row,))
    install_nvml(h100())

    assert open_gpu(Host()).collect() == {"gpu_0_temperature_celsius": 61.0}


def test_a_forked_child_that_cannot_open_nvml_says_why(
    install_nvml: Install, mocker: MockerFixture
) -> None:
    nvml = install_nvml(h100())
    collector = open_gpu(Host())
    mocker.patch("os.getpid", return_value=0)
    nvml.answers["nvmlInit"] = error("NO_PERMISSION")

    with pytest.raises(Unavailable, match="no permission"):
        collector.collect()


def test_close_lets_go_of_nvml_once(install_nvml: Install) -> None:
    nvml = install_nvml(h100())
    collector = open_gpu(Host())

    collector.close()
    collector.close()

    assert nvml.asked("nvmlShutdown") == 1


def _readings_of(gpu: FakeGpu, install_nvml: Install) -> set[str]:
    install_nvml(gpu)
    return set(open_gpu(Host()).collect())
