from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import pytest

from fakes.simulation import LONG_S
from mlflow_sysmetrics.collectors.cpu import open_cpu
from mlflow_sysmetrics.delivery.backlog import Backlog
from mlflow_sysmetrics.delivery.uploader import Uploader
from mlflow_sysmetrics.host import forks
from mlflow_sysmetrics.host.clock import Clock
from mlflow_sysmetrics.host.forks import CallLock, ForkOrder, hold_during_fork
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.runner import CollectorRunner
from mlflow_sysmetrics.sampling.runner_thread import RunnerThread
from mlflow_sysmetrics.sampling.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

pytestmark = pytest.mark.usefixtures("no_workers")


class Worker:
    def __init__(self, turn: ForkOrder = ForkOrder.SAMPLER) -> None:
        self.busy = CallLock()
        hold_during_fork(self, turn)

    @property
    def is_free(self) -> bool:
        """Whether another thread could take the lock."""
        answers: list[bool] = []

        def try_it() -> None:
            if taken := self.busy.acquire(timeout=0.0):
                self.busy.release()
            answers.append(taken)

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join(LONG_S)
        return answers == [True]


@pytest.fixture
def busy() -> Iterator[Worker]:
    """One whose thread is inside a library."""
    worker = Worker(ForkOrder.UPLOADER)
    lock = worker.busy
    held, release = threading.Event(), threading.Event()

    def hang() -> None:
        with lock:
            held.set()
            assert release.wait(LONG_S)

    thread = threading.Thread(target=hang)
    thread.start()
    assert held.wait(LONG_S)
    yield worker
    release.set()
    thread.join(LONG_S)


def test_no_worker_is_busy_during_a_fork_and_all_go_on_after_it() -> None:
    workers = [Worker(turn) for turn in ForkOrder]

    forks._before_fork()
    assert not any(worker.is_free for worker in workers)
    forks._after_fork_in_parent()

    assert all(worker.is_free for worker in workers)


def test_a_fork_waits_only_so_long_and_lets_go_only_of_what_it_got(
    busy: Worker, mocker: MockerFixture
) -> None:
    mocker.patch.object(forks, "FORK_WAIT_S", 0.0)
    worker = Worker()

    forks._before_fork()
    assert not worker.is_free
    forks._after_fork_in_parent()

    assert worker.is_free
    assert not busy.is_free


def test_for_a_call_that_hangs_only_the_first_fork_waits(mocker: MockerFixture) -> None:
    lock = CallLock()
    inner = mocker.create_autospec(threading.RLock(), instance=True)
    inner.acquire.side_effect = [True, False, False, False, True, True, False]
    mocker.patch.object(lock, "_lock", inner)
    lock.__enter__()

    assert not lock.acquire(timeout=0.0)  # has had no time to wait
    assert not lock.acquire(timeout=1.0)
    assert not lock.acquire(timeout=1.0)
    assert lock.acquire(timeout=1.0)  # it is over
    lock.__enter__()
    assert not lock.acquire(timeout=1.0)  # another one

    waits = [call.kwargs["timeout"] for call in inner.acquire.call_args_list if call.kwargs]
    assert waits == [0.0, 1.0, 0.0, 0.0, 1.0]


def test_all_workers_share_the_time_that_a_fork_waits(mocker: MockerFixture) -> None:
    mocker.patch.object(forks, "time").monotonic.side_effect = [100.0, 100.25, 100.5, 101.5]
    workers = [Worker() for _ in range(3)]
    for worker in workers:
        worker.busy = mocker.create_autospec(CallLock, instance=True)
        worker.busy.acquire.return_value = False

    forks._before_fork()

    asked = [worker.busy.acquire.call_args.kwargs for worker in workers]  # type: ignore[attr-defined] # a mock
    assert asked == [{"timeout": 0.75}, {"timeout": 0.5}, {"timeout": 0.0}]
    assert forks._held.locks == []


def test_a_child_has_new_locks_whoever_held_the_old_ones(
    busy: Worker, mocker: MockerFixture
) -> None:
    mocker.patch.object(forks, "FORK_WAIT_S", 0.0)
    free = Worker()
    forks._before_fork()

    forks._after_fork_in_child()

    assert busy.is_free
    assert free.is_free
    assert forks._held.locks == []


def test_who_is_gone_is_not_waited_for() -> None:
    worker = Worker()
    del worker
    gc.collect()

    forks._before_fork()

    assert forks._held.locks == []


def test_a_fork_waits_for_uploaders_then_the_sampler_then_collectors() -> None:
    collector = RunnerThread(CollectorRunner("cpu", open_cpu, Host()))
    sampler = Sampler(Clock())
    uploader = Uploader("http://somewhere", Backlog())

    forks._before_fork()
    held = [*forks._held.locks]
    forks._after_fork_in_parent()

    assert held == [uploader.busy, sampler.busy, collector.busy]
