from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from fakes.simulation import LONG_S, Simulation, join_threads
from mlflow_sysmetrics.host import forks
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling import runner_thread, runners
from mlflow_sysmetrics.sampling.runner import BlockingCollector
from mlflow_sysmetrics.sampling.runners import CollectorSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.sampling.window import Readings

pytestmark = pytest.mark.usefixtures("nothing_said", "no_workers")

THREAD = "mlflow-sysmetrics-slow"


class Quick:
    """A collector that is there at once."""

    def collect(self) -> dict[str, float]:
        return {"quick": 1.0}

    def close(self) -> None:
        pass


class Blocking:
    """A collector whose call is under way until it is told to answer."""

    def __init__(self) -> None:
        self.under_way = threading.Event()
        self.answer = threading.Event()
        self.collected = 0
        self.closed = 0

    def collect(self) -> dict[str, float]:
        self.under_way.set()
        assert self.answer.wait(LONG_S)
        self.collected += 1
        return {"slow": float(self.collected)}

    def close(self) -> None:
        self.closed += 1


class Bench:
    def __init__(self) -> None:
        self.clock = Simulation(time_s=1000.0)
        self.blocking = Blocking()
        self.collectors = CollectorSet(
            Host(clock=self.clock),
            lambda: [
                ("slow", BlockingCollector(lambda _host: self.blocking)),
                ("quick", lambda _host: Quick()),
            ],
        )

    def sample(self, *, is_last: bool = False) -> dict[str, Readings]:
        """By the name of its first value, each collector's readings."""
        sample = self.collectors.collect(is_last=is_last)
        return {next(iter(each.values)): each for each in sample}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Nobody waits long for what blocks."""
    for name in ("PATIENCE_S", "LAST_PATIENCE_S"):
        monkeypatch.setattr(runners, name, 0.01)
    bench = Bench()
    yield bench
    bench.blocking.answer.set()
    join_threads(THREAD)


def test_what_answers_in_time_is_in_the_sample(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "PATIENCE_S", LONG_S)
    bench.blocking.answer.set()

    assert bench.sample()["slow"].values == {"slow": 1.0}
    assert bench.collectors.states == {"slow": None, "quick": None}


def test_what_blocks_keeps_nobody_waiting(bench: Bench) -> None:
    for _ in range(3):
        assert bench.sample().keys() == {"quick", "process/sampler_cpu_milliseconds"}
        bench.clock.pass_time(10.0)

    assert bench.blocking.collected == 0


def test_only_one_call_is_under_way_and_it_is_waited_for_once(
    bench: Bench, mocker: MockerFixture
) -> None:
    wait = mocker.spy(runner_thread.RunnerThread, "wait")

    for _ in range(3):
        bench.sample()

    assert wait.call_count == 1
    assert [thread.name for thread in threading.enumerate()].count(THREAD) == 1


def test_what_comes_late_is_in_the_next_sample_under_its_own_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.sample()
    bench.blocking.answer.set()
    join_threads(THREAD)
    bench.clock.pass_time(10.0)
    monkeypatch.setattr(runners, "PATIENCE_S", LONG_S)

    sample = bench.collectors.collect()

    slow = [each for each in sample if "slow" in each.values]
    assert [(each.time_s, each.values["slow"]) for each in slow] == [(1000.0, 1.0), (1010.0, 2.0)]


def test_opening_may_block_too(bench: Bench) -> None:
    open_now = threading.Event()

    def open_slowly(_host: Host) -> Blocking:
        assert open_now.wait(LONG_S)
        return bench.blocking

    bench.collectors = CollectorSet(
        Host(clock=bench.clock),
        lambda: [("slow", BlockingCollector(open_slowly)), ("quick", lambda _host: Quick())],
    )

    assert "quick" in bench.sample()
    assert bench.collectors.states == {"quick": None}
    open_now.set()


def test_a_collector_that_this_host_does_not_have_is_asked_no_more(mocker: MockerFixture) -> None:
    def refuse(_host: Host) -> Blocking:
        raise Unavailable("no GPU")

    collectors = CollectorSet(Host(), lambda: [("slow", BlockingCollector(refuse))])
    collectors.open()
    start = mocker.spy(threading.Thread, "start")

    collectors.collect()

    assert collectors.states == {"slow": "no GPU"}
    start.assert_not_called()


def test_at_the_interpreters_exit_it_is_asked_where_one_stands(
    bench: Bench, mocker: MockerFixture
) -> None:
    mocker.patch("threading.Thread.start", side_effect=RuntimeError("at shutdown"))
    mocker.patch("threading.main_thread").return_value.is_alive.return_value = False
    bench.blocking.answer.set()

    assert bench.sample(is_last=True)["slow"].values == {"slow": 1.0}


def test_where_the_process_may_have_no_more_threads_it_is_asked_the_next_time(
    bench: Bench, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.blocking.answer.set()
    no_room = RuntimeError("can't start new thread")
    start = mocker.patch("threading.Thread.start", side_effect=no_room)

    assert "slow" not in bench.sample()
    assert bench.blocking.collected == 0

    mocker.stop(start)
    monkeypatch.setattr(runners, "PATIENCE_S", LONG_S)
    assert bench.sample()["slow"].values == {"slow": 1.0}


def test_a_failure_is_its_own(bench: Bench, mocker: MockerFixture) -> None:
    mocker.patch.object(bench.blocking, "collect", side_effect=OSError("driver"))

    assert "quick" in bench.sample()
    join_threads(THREAD)
    assert bench.collectors.failures == {"slow": 1}


def test_what_blocks_is_not_closed_and_nobody_waits_for_that(bench: Bench) -> None:
    bench.sample()

    bench.collectors.close()

    assert bench.blocking.closed == 0


def test_what_does_not_block_is_closed_once(bench: Bench) -> None:
    bench.blocking.answer.set()
    bench.sample()
    join_threads(THREAD)

    bench.collectors.close()
    bench.collectors.close()

    assert bench.blocking.closed == 1


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
class TestFork:
    def test_a_fork_waits_for_a_call_under_way(self, bench: Bench, mocker: MockerFixture) -> None:
        bench.sample()
        assert bench.blocking.under_way.wait(LONG_S)
        mocker.patch.object(forks, "FORK_WAIT_S", LONG_S)
        (thread,) = bench.collectors._threads.values()
        busy = thread.busy

        class AnswersOnceWaitedFor:
            def acquire(self, timeout: float) -> bool:
                bench.blocking.answer.set()
                return busy.acquire(timeout=timeout)

            def release(self) -> None:
                busy.release()

        thread.busy = AnswersOnceWaitedFor()  # type: ignore[assignment] # all that a fork needs
        pid = os.fork()
        if pid == 0:
            os._exit(bench.blocking.collected)  # as the child finds it

        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1

    def test_a_fork_waits_no_longer_than_allowed(self, bench: Bench, mocker: MockerFixture) -> None:
        bench.sample()
        assert bench.blocking.under_way.wait(LONG_S)
        mocker.patch.object(forks, "FORK_WAIT_S", 0.01)

        pid = os.fork()
        if pid == 0:
            os._exit(0)

        assert os.waitpid(pid, 0)[1] == 0

    def test_the_parent_goes_on_after_it(self, bench: Bench) -> None:
        bench.blocking.answer.set()
        bench.sample()
        join_threads(THREAD)
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

        bench.sample()
        join_threads(THREAD)

        assert bench.blocking.collected == 2

    def test_a_child_asks_in_a_thread_of_its_own(self, bench: Bench, mocker: MockerFixture) -> None:
        bench.sample()
        assert bench.blocking.under_way.wait(LONG_S)
        mocker.patch.object(forks, "FORK_WAIT_S", 0.01)
        mocker.patch.object(runners, "PATIENCE_S", LONG_S)

        pid = os.fork()
        if pid == 0:
            bench.blocking.answer.set()
            os._exit(0 if "slow" in bench.sample() else 1)

        assert os.waitpid(pid, 0)[1] == 0
