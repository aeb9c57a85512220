from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fakes.simulation import Simulation
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling import runner, runners
from mlflow_sysmetrics.sampling.runners import CollectorSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.collectors.contract import Collector
    from mlflow_sysmetrics.sampling.window import Readings

pytestmark = pytest.mark.usefixtures("nothing_said")

COST = "process/sampler_cpu_milliseconds"


class Scripted:
    """A collector that counts what is asked of it, and may raise."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        self.collected = 0
        self.closed = 0

    def collect(self) -> dict[str, float]:
        self.collected += 1
        if self.error is not None:
            raise self.error
        return {self.name: 1.0}

    def close(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


class Slow(Scripted):
    """A collector that takes two seconds."""

    def __init__(self, name: str, clock: Simulation) -> None:
        super().__init__(name)
        self._clock = clock

    def collect(self) -> dict[str, float]:
        self._clock.pass_time(2.0)
        return super().collect()


@pytest.fixture
def clock() -> Simulation:
    return Simulation(time_s=1000.0)


@pytest.fixture
def make_set(clock: Simulation) -> Callable[..., CollectorSet]:
    def make(*parts: Scripted | tuple[str, Exception]) -> CollectorSet:
        """Collectors, and such that cannot be opened."""
        openers = [
            (part.name, _opener(part))
            if isinstance(part, Scripted)
            else (part[0], _refusal(part[1]))
            for part in parts
        ]
        return CollectorSet(Host(clock=clock), lambda: openers)

    return make


def test_a_reading_carries_the_time_at_which_its_collector_was_asked(
    make_set: Callable[..., CollectorSet], clock: Simulation
) -> None:
    collectors = make_set(Slow("one", clock), Slow("two", clock))

    assert [(each.time_s, *each.values) for each in collectors.collect()] == [
        (1000.0, "one"),
        (1002.0, "two"),
        (1004.0, COST),
    ]


def test_a_sample_that_is_young_enough_is_given_again(
    make_set: Callable[..., CollectorSet], clock: Simulation
) -> None:
    collectors = make_set(Scripted("one"))
    first = collectors.collect()
    clock.pass_time(0.2)

    assert collectors.collect(max_age_s=0.25) is first
    assert collectors.collect() is not first
    clock.pass_time(0.3)
    assert collectors.collect(max_age_s=0.25) is not first


def test_a_collector_that_raises_loses_only_its_own_readings_and_warns_once(
    make_set: Callable[..., CollectorSet], caplog: pytest.LogCaptureFixture
) -> None:
    broken = Scripted("broken", ValueError("garbage"))
    collectors = make_set(Scripted("one"), broken, Scripted("two"))

    samples = [collectors.collect() for _ in range(3)]

    assert [_names(sample) for sample in samples] == [["one", "two", COST]] * 3
    assert broken.collected == 3
    assert collectors.failures == {"broken": 3}
    assert caplog.text.count("garbage") == 1


def test_a_collector_that_works_again_is_heard_again(
    make_set: Callable[..., CollectorSet],
) -> None:
    collector = Scripted("one", OSError("busy"))
    collectors = make_set(collector)
    assert _names(collectors.collect()) == [COST]

    collector.error = None

    assert _names(collectors.collect()) == ["one", COST]


def test_a_subject_that_is_gone_is_no_failure(
    make_set: Callable[..., CollectorSet], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mlflow_sysmetrics")
    collectors = make_set(Scripted("gone", Unavailable("unplugged")))

    collectors.collect()

    assert collectors.failures == {}
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "unplugged" in caplog.text


def test_what_fails_or_is_spared_is_not_gone(
    make_set: Callable[..., CollectorSet], cpu: Simulation
) -> None:
    gone, dear = Scripted("gone", Unavailable("unplugged")), Dear("dear", cpu)
    broken, absent = Scripted("broken", OSError("busy")), ("absent", Unavailable("none"))
    collectors = make_set(gone, broken, absent, dear)

    while "dear" in _names(collectors.collect()):
        assert not collectors.is_gone("dear")

    names = ("gone", "broken", "absent", "dear")
    assert [name for name in names if collectors.is_gone(name)] == ["gone", "absent"]
    gone.error = None
    collectors.collect()
    assert not collectors.is_gone("gone")


def test_openers_fail_alone(
    make_set: Callable[..., CollectorSet], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mlflow_sysmetrics")
    collectors = make_set(
        ("absent", Unavailable("no such hardware")),
        ("broken", RuntimeError("no such luck")),
        Scripted("well"),
    )

    assert _names(collectors.collect()) == ["well", COST]
    assert collectors.states == {
        "absent": "no such hardware",
        "broken": "RuntimeError('no such luck')",
        "well": None,
    }
    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING"]


def test_where_the_collectors_cannot_be_imported_there_are_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken_import() -> list[tuple[str, Callable[[Host], Collector]]]:
        raise ImportError("psutil is broken")

    collectors = CollectorSet(Host(), broken_import)

    assert [_names(collectors.collect()) for _ in range(2)] == [[COST], [COST]]
    assert caplog.text.count("psutil is broken") == 1


def test_each_collector_is_closed_once_whatever_another_does(
    make_set: Callable[..., CollectorSet],
) -> None:
    parts = [Scripted("one"), Scripted("broken", OSError("busy")), Scripted("two")]
    collectors = make_set(*parts)
    collectors.open()

    collectors.close()
    collectors.close()

    assert [part.closed for part in parts] == [1, 1, 1]
    assert _names(collectors.collect()) == [COST]


def _opener(collector: Collector) -> Callable[[Host], Collector]:
    return lambda _host: collector


def _refusal(error: Exception) -> Callable[[Host], Collector]:
    def refuse(_host: Host) -> Collector:
        raise error

    return refuse


def _names(sample: list[Readings]) -> list[str]:
    return [name for each in sample for name in each.values]


class Dear(Scripted):
    """A collector that uses 80 ms of CPU time."""

    def __init__(self, name: str, cpu: Simulation) -> None:
        super().__init__(name)
        self._cpu = cpu

    def collect(self) -> dict[str, float]:
        self._cpu.pass_time(0.08)
        return super().collect()


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Simulation:
    cpu = Simulation()
    measured = SimpleNamespace(thread_time=cpu.now_s, monotonic=cpu.now_s)
    for module in (runners, runner):
        monkeypatch.setattr(module, "time", measured)
    return cpu


def test_a_collector_beyond_its_budget_is_asked_less_often(
    make_set: Callable[..., CollectorSet],
    clock: Simulation,
    cpu: Simulation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mlflow_sysmetrics")
    dear, cheap = Dear("dear", cpu), Scripted("cheap")
    collectors = make_set(dear, cheap)

    for _ in range(101):
        collectors.collect()
        clock.pass_time(1.0)

    # 5 % of 100 s, and of the 2 s it has to begin with
    assert dear.collected == int(0.05 * 102 / 0.08)
    assert cheap.collected == 101
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "dear metrics are sampled less often" in caplog.text


def test_the_last_sample_of_a_run_is_complete_whatever_it_costs(
    make_set: Callable[..., CollectorSet], cpu: Simulation
) -> None:
    dear = Dear("dear", cpu)
    collectors = make_set(dear)
    for _ in range(5):
        collectors.collect()
    asked = dear.collected
    assert asked < 5

    assert "dear" in _names(collectors.collect(is_last=True))
