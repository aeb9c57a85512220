from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from fakes.simulation import LONG_S, Simulation, join_threads
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.sampler import Sampler
from mlflow_sysmetrics.sampling.window import Readings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_mock import MockerFixture


THREAD = "mlflow-sysmetrics-sampler"


class Scripted:
    """A collector that numbers its samples, and does meanwhile what it is told."""

    def __init__(self) -> None:
        self.act: Callable[[int], object] = lambda _number: None
        self.collected = 0

    def collect(self) -> dict[str, float]:
        number = self.collected
        self.collected += 1
        self.act(number)
        return {"number": float(number)}

    def close(self) -> None:
        pass


class Bench:
    """A sampler, the collectors that it asks, and their time."""

    def __init__(self) -> None:
        self.clock = Simulation(time_s=1000.0)
        self.collector = Scripted()
        self.collectors = self.another_set(self.collector)
        self.sampler = Sampler(self.clock)

    def another_set(self, collector: Scripted) -> CollectorSet:
        return CollectorSet(Host(clock=self.clock), lambda: [("scripted", lambda _host: collector)])

    def sample_until_the_end(self, run: Run) -> None:
        self.sampler.subscribe(run)
        join_threads(THREAD)


class Run:
    """A subscriber that leaves after so many samples."""

    def __init__(self, bench: Bench, interval_s: float, lasts: int) -> None:
        self.collectors = bench.collectors
        self.interval_s = interval_s
        self.samples: list[list[Readings]] = []
        self.taken_s: list[float] = []
        self._bench = bench
        self._lasts = lasts

    def take(self, sample: list[Readings]) -> None:
        self.samples.append(sample)
        self.taken_s.append(self._bench.clock.now_s())
        if len(self.samples) == self._lasts:
            self._bench.sampler.unsubscribe(self)

    def opens_at(self, time_s: float) -> Run:
        self._bench.clock.at(time_s, lambda: self._bench.sampler.subscribe(self))
        return self

    @property
    def numbers(self) -> list[float]:
        """Which of the collector's samples it was handed."""
        return [sample[0].values["number"] for sample in self.samples]


@pytest.fixture
def still() -> Bench:
    """The clock stands still: after the first sample the sampler waits to be asked."""
    return Bench()


@pytest.fixture
def bench(still: Bench, mocker: MockerFixture) -> Bench:
    """Time passes while the sampler waits."""
    mocker.patch.object(still.sampler._condition, "wait", still.clock.wait)
    return still


# Ticks


def test_ticks_lie_on_a_grid_whatever_a_sample_takes(bench: Bench) -> None:
    bench.collector.act = lambda _number: bench.clock.pass_time(0.5)
    run = Run(bench, interval_s=10.0, lasts=4)

    bench.sample_until_the_end(run)

    assert run.taken_s == [1000.5, 1010.5, 1020.5, 1030.5]


def test_missed_ticks_are_skipped_not_bunched(bench: Bench) -> None:
    bench.collector.act = lambda number: bench.clock.pass_time(25.0 if number == 1 else 0.0)
    run = Run(bench, interval_s=10.0, lasts=4)

    bench.sample_until_the_end(run)

    assert run.taken_s == [1000.0, 1035.0, 1040.0, 1050.0]


def test_runs_with_the_same_interval_share_their_samples(bench: Bench) -> None:
    first = Run(bench, interval_s=10.0, lasts=3)
    second = Run(bench, interval_s=10.0, lasts=3).opens_at(1003.0)

    bench.sample_until_the_end(first)

    assert first.taken_s == [1000.0, 1010.0, 1020.0]
    assert second.taken_s == [1003.0, 1010.0, 1020.0]
    assert second.samples[1] is first.samples[1]
    assert bench.collector.collected == 4


def test_runs_with_other_collectors_have_samples_of_their_own(bench: Bench) -> None:
    other_collector = Scripted()
    first = Run(bench, interval_s=10.0, lasts=2)
    other = Run(bench, interval_s=10.0, lasts=3).opens_at(1000.0)
    other.collectors = bench.another_set(other_collector)

    bench.sample_until_the_end(first)

    assert bench.collector.collected == 2
    assert other_collector.collected == 3
    assert other.samples[1] is not first.samples[1]


def test_the_first_window_is_at_least_half_an_interval_long(bench: Bench) -> None:
    first = Run(bench, interval_s=10.0, lasts=4)
    late = Run(bench, interval_s=10.0, lasts=2).opens_at(1007.0)

    bench.sample_until_the_end(first)

    assert late.taken_s == [1007.0, 1020.0]


def test_each_run_has_its_own_interval(bench: Bench) -> None:
    slow = Run(bench, interval_s=4.0, lasts=3)
    quick = Run(bench, interval_s=1.0, lasts=5).opens_at(1000.0)

    bench.sample_until_the_end(slow)

    assert slow.taken_s == [1000.0, 1004.0, 1008.0]
    assert quick.taken_s == [1000.0, 1001.0, 1002.0, 1003.0, 1004.0]


def test_a_run_that_opens_right_after_a_sample_begins_with_that_one(bench: Bench) -> None:
    first = Run(bench, interval_s=10.0, lasts=2)
    soon = Run(bench, interval_s=10.0, lasts=1).opens_at(1000.2)
    later = Run(bench, interval_s=10.0, lasts=1).opens_at(1000.3)

    bench.sample_until_the_end(first)

    assert soon.samples[0] is first.samples[0]
    assert later.numbers == [1.0]


def test_what_was_read_before_a_run_opened_is_not_its(bench: Bench) -> None:
    """As a collector gives it that had begun to read before, and was slow."""
    late = Readings(990.0, {"late": 1.0})
    collect = bench.collectors.collect
    bench.collectors.collect = lambda *arguments, **named: [late, *collect(*arguments, **named)]  # type: ignore[method-assign] # what a slow collector adds
    run = Run(bench, interval_s=10.0, lasts=2)

    bench.sample_until_the_end(run)

    assert [each.time_s for sample in run.samples for each in sample] == [1000.0] * 2 + [1010.0] * 2


# The thread


def test_one_thread_serves_all_and_ends_with_the_last_subscription(bench: Bench) -> None:
    threads: set[int] = set()
    bench.collector.act = lambda _number: threads.add(threading.get_ident())
    first = Run(bench, interval_s=10.0, lasts=4)
    second = Run(bench, interval_s=10.0, lasts=2).opens_at(1001.0)
    third = Run(bench, interval_s=10.0, lasts=3).opens_at(1002.0)

    bench.sample_until_the_end(first)

    assert [len(run.samples) for run in (first, second, third)] == [4, 2, 3]
    assert len(threads) == 1


def test_after_the_last_subscription_a_new_one_begins_a_new_grid(bench: Bench) -> None:
    first = Run(bench, interval_s=10.0, lasts=2)
    second = Run(bench, interval_s=10.0, lasts=2)
    bench.sample_until_the_end(first)
    bench.clock.pass_time(4.0)

    bench.sample_until_the_end(second)

    assert second.taken_s == [1014.0, 1024.0]


def test_a_subscriber_that_raises_costs_the_others_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Run):
        def take(self, sample: list[Readings]) -> None:
            super().take(sample)
            raise ValueError("broken")

    broken = Broken(bench, interval_s=10.0, lasts=3)
    well = Run(bench, interval_s=10.0, lasts=3).opens_at(1001.0)

    bench.sample_until_the_end(broken)

    assert len(broken.samples) == len(well.samples) == 3
    assert "a sample was lost: ValueError('broken')" in caplog.text


def test_a_thread_that_cannot_start_is_tried_again(still: Bench, mocker: MockerFixture) -> None:
    run = Run(still, interval_s=10.0, lasts=1)
    start = mocker.patch("threading.Thread.start", side_effect=RuntimeError("at shutdown"))
    with pytest.raises(RuntimeError, match="at shutdown"):
        still.sampler.subscribe(run)
    mocker.stop(start)

    still.sample_until_the_end(run)

    assert run.numbers == [0.0]


# The last sample


def test_the_last_sample_is_handed_over_before_finish_returns(still: Bench) -> None:
    run = Run(still, interval_s=10.0, lasts=9)
    still.sampler.subscribe(run)

    assert still.sampler.finish(run, LONG_S)

    assert run.samples
    assert run.numbers[-1] == still.collector.collected - 1
    join_threads(THREAD)


def test_a_sample_under_way_when_the_end_is_asked_for_is_not_the_last(
    still: Bench, mocker: MockerFixture
) -> None:
    under_way, asked = threading.Event(), threading.Event()

    def wait_until_asked(_number: int) -> None:
        under_way.set()
        assert asked.wait(LONG_S)

    still.collector.act = wait_until_asked
    run = Run(still, interval_s=10.0, lasts=9)
    still.sampler.subscribe(run)
    assert under_way.wait(LONG_S)
    mocker.patch.object(still.sampler._condition, "notify", asked.set)

    assert still.sampler.finish(run, LONG_S)

    assert run.numbers == [0.0, 1.0]
    join_threads(THREAD)


def test_the_last_sample_is_not_waited_for_longer_than_allowed(still: Bench) -> None:
    under_way, hang = threading.Event(), threading.Event()

    def hang_on(_number: int) -> None:
        under_way.set()
        hang.wait(LONG_S)

    still.collector.act = hang_on
    run = Run(still, interval_s=10.0, lasts=9)
    still.sampler.subscribe(run)
    assert under_way.wait(LONG_S)

    assert not still.sampler.finish(run, timeout_s=0.01)

    hang.set()
    join_threads(THREAD)
    assert run.numbers == [0.0]


def test_who_is_not_subscribed_has_no_last_sample(still: Bench) -> None:
    run = Run(still, interval_s=10.0, lasts=1)

    assert not still.sampler.finish(run, LONG_S)
    assert not run.samples
