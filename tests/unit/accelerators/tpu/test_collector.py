from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.fake_libtpu import FakeLibtpu
from mlflow_sysmetrics.accelerators.tpu.collector import by_device, open_tpu
from mlflow_sysmetrics.accelerators.tpu.libtpu import DUTY_CYCLE, MEMORY_TOTAL, MEMORY_USED, ports
from mlflow_sysmetrics.catalog import metrics_of
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

V5E = Path(__file__).parents[3] / "data/gpus/tpu-v5e"
GIB = 1 << 30
HALF_FULL: dict[str, dict[int, float] | str] = {
    MEMORY_USED: {0: 8 * GIB, 1: 4 * GIB},
    MEMORY_TOTAL: {0: 16 * GIB, 1: 16 * GIB},
    DUTY_CYCLE: {0: 91.5, 1: 0.0},
}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeLibtpu]:
    """Services by port."""

    def make(**services: dict[str, dict[int, float] | str]) -> FakeLibtpu:
        libtpu = FakeLibtpu({name.removeprefix("port_"): told for name, told in services.items()})
        libtpu.install(monkeypatch)
        return libtpu

    return make


def v5e(**environ: str) -> Host:
    return Host(root=V5E, system="Linux", environ=environ)


def test_memory_and_duty_cycle_are_read(install: Callable[..., FakeLibtpu]) -> None:
    libtpu = install(port_8431=HALF_FULL)

    assert open_tpu(v5e()).collect() == {
        "tpu_0/memory_usage_megabytes": pytest.approx(8589.934592),
        "tpu_0/memory_usage_percentage": 50.0,
        "tpu_0/duty_cycle_percentage": 91.5,
        "tpu_1/memory_usage_megabytes": pytest.approx(4294.967296),
        "tpu_1/memory_usage_percentage": 25.0,
        "tpu_1/duty_cycle_percentage": 0.0,
    }
    assert libtpu.open_channels == 0
    assert libtpu.timeouts_s == [0.5, 0.5, 0.5]


def test_every_reading_is_for_a_metric_of_the_catalog(install: Callable[..., FakeLibtpu]) -> None:
    install(port_8431=HALF_FULL)

    assert all(metrics_of(name) for name in open_tpu(v5e()).collect())


def test_each_process_of_several_answers_on_a_port_of_its_own(
    install: Callable[..., FakeLibtpu],
) -> None:
    install(
        port_8431={MEMORY_USED: {0: GIB}},
        port_8432={MEMORY_USED: {1: 2 * GIB}},
    )
    collector = open_tpu(v5e(TPU_RUNTIME_METRICS_PORTS="8431,8432,8433"))

    assert collector.collect() == {
        "tpu_0/memory_usage_megabytes": pytest.approx(1073.741824),
        "tpu_1/memory_usage_megabytes": pytest.approx(2147.483648),
    }


def test_a_metric_that_libtpu_lacks_costs_no_other(install: Callable[..., FakeLibtpu]) -> None:
    install(port_8431={**HALF_FULL, DUTY_CYCLE: "NOT_FOUND", MEMORY_TOTAL: {0: 0, 1: 16 * GIB}})

    assert set(open_tpu(v5e()).collect()) == {
        "tpu_0/memory_usage_megabytes",
        "tpu_1/memory_usage_megabytes",
        "tpu_1/memory_usage_percentage",
    }


def test_while_nothing_uses_a_tpu_there_is_nothing_to_read(
    install: Callable[..., FakeLibtpu],
) -> None:
    libtpu = install()
    collector = open_tpu(v5e())

    with pytest.raises(Unavailable, match="on port 8431: UNAVAILABLE"):
        collector.collect()
    libtpu.services["8431"] = HALF_FULL.copy()
    assert collector.collect()
    collector.close()
    collector.close()


def test_what_is_reported_of_a_chip_is_reported_of_its_devices() -> None:
    assert by_device({0: 10.0, 1: 20.0}, [0, 1, 2, 3]) == {0: 10.0, 1: 10.0, 2: 20.0, 3: 20.0}
    assert by_device({4: 10.0}, [4]) == {4: 10.0}
    assert by_device({}, [0, 1]) == {}
    assert by_device({0: 1.0, 1: 2.0}, [0, 1, 2]) == {}


@pytest.mark.parametrize(
    ("told", "expected"),
    [("", ("8431",)), ("8431, 8433", ("8431", "8433")), ("x,-1", ("8431",))],
)
def test_ports_are_those_that_libtpu_is_reported(told: str, expected: tuple[str, ...]) -> None:
    assert ports({"TPU_RUNTIME_METRICS_PORTS": told}) == expected


def test_a_network_card_of_googles_is_no_tpu(
    install: Callable[..., FakeLibtpu], tmp_path: Path
) -> None:
    install(port_8431=HALF_FULL)
    card = tmp_path / "sys/bus/pci/devices/0000-00-03.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x1ae0\n")
    (card / "class").write_text("0x020000\n")

    with pytest.raises(Unavailable, match="no TPU"):
        open_tpu(Host(root=tmp_path, system="Linux"))


def test_without_tpu_info_the_reason_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)

    with pytest.raises(Unavailable, match="tpu-info cannot be imported"):
        open_tpu(v5e())
