from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from fakes.simulation import LONG_S, Simulation, join_threads
from mlflow_sysmetrics.host import Host, Unavailable
from mlflow_sysmetrics.sampler import Collectors, Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.collectors import Collector
    from mlflow_sysmetrics.window import Readings

    Openers = Sequence[tuple[str, Callable[[Host], Collector]]]

pytestmark = pytest.mark.usefixtures("nothing_said")

THREAD = "mlflow-sysmetrics-sampler"
COST = "process/sampler_cpu_milliseconds"


class Scripted:
    """A collector that does what it is told and counts."""

    def __init__(
        self, name: str = "reading", act: Callable[[int], object] = lambda _number: None
    ) -> None:
        self.name = name
        self.act = act
        self.collected = 0
        self.closed = 0

    def collect(self) -> dict[str, float]:
        number = self.collected
        self.collected += 1
        self.act(number)
        return {self.name: float(number)}

    def close(self) -> None:
        self.closed += 1


class Run:
    """A subscriber that leaves after so many samples."""

    def __init__(self, sampler: Sampler, clock: Simulation, interval_s: float, lasts: int) -> None:
        self.interval_s = interval_s
        self.samples: list[list[Readings]] = []
        self.taken_s: list[float] = []
        self._sampler = sampler
        self._clock = clock
        self._lasts = lasts

    def take(self, sample: list[Readings]) -> None:
        self.samples.append(sample)
        self.taken_s.append(self._clock.now_s())
        if len(self.samples) == self._lasts:
            self._sampler.unsubscribe(self)

    @property
    def numbers(self) -> list[float]:
        """Which of the collector's samples it was handed."""
        return [sample[0].values["reading"] for sample in self.samples]


def failing(error: Exception) -> Callable[[int], None]:
    def fail(_number: int) -> None:
        raise error

    return fail


def opening(*collectors: Scripted) -> Openers:
    return [(each.name, lambda _host, each=each: each) for each in collectors]


def refusing(error: Exception) -> Callable[[Host], Collector]:
    def refuse(_host: Host) -> Collector:
        raise error

    return refuse


@pytest.fixture
def clock() -> Simulation:
    return Simulation(time_s=1000.0)


@pytest.fixture
def host(clock: Simulation) -> Host:
    return Host(clock=clock)


@pytest.fixture
def collector() -> Scripted:
    return Scripted()


@pytest.fixture
def sampler(
    host: Host, clock: Simulation, collector: Scripted, mocker: MockerFixture
) -> Sampler:
    """A sampler in simulated time."""
    sampler = Sampler(host, lambda: opening(collector))
    mocker.patch.object(sampler._condition, "wait", clock.wait)
    return sampler


# Ticks


def test_ticks_lie_on_a_grid_whatever_a_sample_takes(
    sampler: Sampler, clock: Simulation, collector: Scripted
) -> None:
    collector.act = lambda _number: clock.pass_time(0.5)
    run = Run(sampler, clock, interval_s=10.0, lasts=4)

    sampler.subscribe(run)
    join_threads(THREAD)

    assert run.taken_s == [1000.5, 1010.5, 1020.5, 1030.5]


def test_missed_ticks_are_skipped_not_bunched(
    sampler: Sampler, clock: Simulation, collector: Scripted
) -> None:
    collector.act = lambda number: clock.pass_time(25.0 if number == 1 else 0.0)
    run = Run(sampler, clock, interval_s=10.0, lasts=4)

    sampler.subscribe(run)
    join_threads(THREAD)

    assert run.taken_s == [1000.0, 1035.0, 1040.0, 1050.0]


def test_runs_with_the_same_interval_share_their_samples(
    sampler: Sampler, clock: Simulation, collector: Scripted
) -> None:
    first = Run(sampler, clock, interval_s=10.0, lasts=3)
    second = Run(sampler, clock, interval_s=10.0, lasts=3)
    clock.at(1003.0, lambda: sampler.subscribe(second))

    sampler.subscribe(first)
    join_threads(THREAD)

    assert first.taken_s == [1000.0, 1010.0, 1020.0]
    assert second.taken_s == [1003.0, 1010.0, 1020.0]
    assert second.samples[1] is first.samples[1]
    assert collector.collected == 4


def test_the_first_window_is_at_least_half_an_interval_long(
    sampler: Sampler, clock: Simulation
) -> None:
    first = Run(sampler, clock, interval_s=10.0, lasts=4)
    late = Run(sampler, clock, interval_s=10.0, lasts=2)
    clock.at(1007.0, lambda: sampler.subscribe(late))

    sampler.subscribe(first)
    join_threads(THREAD)

    assert late.taken_s == [1007.0, 1020.0]


def test_each_run_has_its_own_interval(sampler: Sampler, clock: Simulation) -> None:
    slow = Run(sampler, clock, interval_s=4.0, lasts=3)
    quick = Run(sampler, clock, interval_s=1.0, lasts=5)
    clock.at(1000.0, lambda: sampler.subscribe(quick))

    sampler.subscribe(slow)
    join_threads(THREAD)

    assert slow.taken_s == [1000.0, 1004.0, 1008.0]
    assert quick.taken_s == [1000.0, 1001.0, 1002.0, 1003.0, 1004.0]


def test_a_run_that_opens_right_after_a_sample_begins_with_that_one(
    sampler: Sampler, clock: Simulation, collector: Scripted
) -> None:
    first = Run(sampler, clock, interval_s=10.0, lasts=2)
    soon = Run(sampler, clock, interval_s=10.0, lasts=1)
    later = Run(sampler, clock, interval_s=10.0, lasts=1)
    clock.at(1000.2, lambda: sampler.subscribe(soon))
    clock.at(1000.3, lambda: sampler.subscribe(later))

    sampler.subscribe(first)
    join_threads(THREAD)

    assert soon.samples[0] is first.samples[0]
    assert later.numbers == [1.0]


def test_a_reading_carries_the_time_at_which_it_was_taken(
    sampler: Sampler, clock: Simulation, host: Host
) -> None:
    slow = Scripted("slow", lambda _number: clock.pass_time(2.0))

    sample = Collectors(host, opening(slow, Scripted("quick"))).collect()

    assert [(each.time_s, *each.values) for each in sample] == [
        (1002.0, "slow"),
        (1002.0, "quick"),
        (1002.0, COST),
    ]


# The thread


def test_one_thread_serves_all_and_ends_with_the_last_subscription(
    sampler: Sampler, clock: Simulation, collector: Scripted
) -> None:
    seen: set[int] = set()
    collector.act = lambda _number: seen.add(threading.get_ident())
    runs = [Run(sampler, clock, interval_s=10.0, lasts=lasts) for lasts in (4, 2, 3)]
    clock.at(1001.0, lambda: sampler.subscribe(runs[1]))
    clock.at(1002.0, lambda: sampler.subscribe(runs[2]))

    sampler.subscribe(runs[0])
    join_threads(THREAD)

    assert [len(run.samples) for run in runs] == [4, 2, 3]
    assert len(seen) == 1


def test_after_the_last_subscription_a_new_one_begins_a_new_grid(
    sampler: Sampler, clock: Simulation, collector: Scripted
) -> None:
    first = Run(sampler, clock, interval_s=10.0, lasts=2)
    second = Run(sampler, clock, interval_s=10.0, lasts=2)
    sampler.subscribe(first)
    join_threads(THREAD)
    clock.pass_time(4.0)

    sampler.subscribe(second)
    join_threads(THREAD)

    assert second.taken_s == [1014.0, 1024.0]
    assert collector.collected == 4


def test_a_subscriber_that_raises_costs_the_others_nothing(
    sampler: Sampler, clock: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Run):
        def take(self, sample: list[Readings]) -> None:
            super().take(sample)
            raise ValueError("broken")

    broken = Broken(sampler, clock, interval_s=10.0, lasts=3)
    well = Run(sampler, clock, interval_s=10.0, lasts=3)
    clock.at(1001.0, lambda: sampler.subscribe(well))

    sampler.subscribe(broken)
    join_threads(THREAD)

    assert len(broken.samples) == len(well.samples) == 3
    assert "a sample was lost: ValueError('broken')" in caplog.text


# The last sample. These are in real time: the ending is asked for from another thread.


@pytest.fixture
def waiting_sampler(host: Host, collector: Scripted) -> Sampler:
    """A sampler whose clock stands still: after the first sample it waits to be asked."""
    return Sampler(host, lambda: opening(collector))


def test_finish_takes_a_last_sample(
    waiting_sampler: Sampler, clock: Simulation, collector: Scripted
) -> None:
    run = Run(waiting_sampler, clock, interval_s=1e6, lasts=9)
    waiting_sampler.subscribe(run)

    assert waiting_sampler.finish(run, LONG_S)
    assert run.samples
    assert run.numbers[-1] == collector.collected - 1
    join_threads(THREAD)


def test_a_sample_under_way_when_the_end_is_asked_for_is_not_the_last(
    waiting_sampler: Sampler, clock: Simulation, collector: Scripted, mocker: MockerFixture
) -> None:
    asked = threading.Event()

    def wait_until_asked(number: int) -> None:
        if number == 0:
            under_way.set()
            assert asked.wait(LONG_S)

    under_way = threading.Event()
    collector.act = wait_until_asked
    run = Run(waiting_sampler, clock, interval_s=1e6, lasts=9)
    waiting_sampler.subscribe(run)
    assert under_way.wait(LONG_S)
    mocker.patch.object(waiting_sampler._condition, "notify", asked.set)

    assert waiting_sampler.finish(run, LONG_S)
    assert run.numbers == [0.0, 1.0]
    join_threads(THREAD)


def test_the_last_sample_is_not_waited_for_longer_than_allowed(
    waiting_sampler: Sampler, clock: Simulation, collector: Scripted
) -> None:
    hang = threading.Event()
    under_way = threading.Event()

    def wait(_number: int) -> None:
        under_way.set()
        hang.wait(LONG_S)

    collector.act = wait
    run = Run(waiting_sampler, clock, interval_s=1e6, lasts=9)
    waiting_sampler.subscribe(run)
    assert under_way.wait(LONG_S)

    assert not waiting_sampler.finish(run, timeout_s=0.01)
    hang.set()
    join_threads(THREAD)


def test_what_is_not_subscribed_has_no_last_sample(
    waiting_sampler: Sampler, clock: Simulation
) -> None:
    assert not waiting_sampler.finish(Run(waiting_sampler, clock, 1.0, lasts=1), LONG_S)


# Each collector alone


def test_a_collector_that_raises_loses_only_its_own_readings(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Scripted("broken", failing(ValueError("garbage")))
    collectors = Collectors(host, opening(Scripted("one"), broken, Scripted("two")))

    samples = [collectors.collect() for _ in range(3)]

    assert [[name for each in sample for name in each.values] for sample in samples] == [
        ["one", "two", COST]
    ] * 3
    assert broken.collected == 3
    assert collectors.failures == {"broken": 3}
    assert caplog.text.count("garbage") == 1


def test_a_collector_whose_subject_is_gone_says_so_only_in_debug(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mlflow_sysmetrics")
    collectors = Collectors(host, opening(Scripted("gone", failing(Unavailable("unplugged")))))

    collectors.collect()

    assert collectors.failures == {}
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "unplugged" in caplog.text


def test_openers_fail_alone(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mlflow_sysmetrics")
    collectors = Collectors(
        host,
        [
            ("absent", refusing(Unavailable("no such hardware"))),
            ("broken", refusing(RuntimeError("no such luck"))),
            *opening(Scripted("well")),
        ],
    )

    assert [[*each.values] for each in collectors.collect()] == [["well"], [COST]]
    assert collectors.unavailable == {
        "absent": "no such hardware",
        "broken": "RuntimeError('no such luck')",
    }
    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING"]


def test_collectors_are_closed_once_each_alone(host: Host, mocker: MockerFixture) -> None:
    one, two = Scripted("one"), Scripted("two")
    broken = Scripted("broken")
    mocker.patch.object(broken, "close", side_effect=OSError("busy"))
    collectors = Collectors(host, opening(one, broken, two))

    collectors.close()
    collectors.close()

    assert (one.closed, two.closed) == (1, 1)
    assert [[*each.values] for each in collectors.collect()] == [[COST]]


def test_without_any_collector_the_thread_goes_on(
    host: Host, clock: Simulation, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    def broken_import() -> Openers:
        raise ImportError("psutil is broken")

    sampler = Sampler(host, broken_import)
    mocker.patch.object(sampler._condition, "wait", clock.wait)
    run = Run(sampler, clock, interval_s=10.0, lasts=2)

    sampler.subscribe(run)
    join_threads(THREAD)

    assert [[*each.values] for sample in run.samples for each in sample] == [[COST], [COST]]
    assert caplog.text.count("psutil is broken") == 1
