from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakes.simulation import Simulation
from mlflow_sysmetrics.sampling import recorder as recorder_module
from mlflow_sysmetrics.sampling.recorder import Recorder
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.sampler import Sampler
from mlflow_sysmetrics.sampling.sink import Point, Sink
from mlflow_sysmetrics.sampling.window import Readings
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from unittest.mock import Mock

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.sampling.sampler import Subscriber

GAUGE = "system_memory_usage_megabytes"
OTHER_GAUGE = "disk_usage_megabytes"
OPENED_MS = 1_700_000_000_000


class Bench:
    """What surrounds a recorder: time, a sampler and a sink that note what they are asked."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.clock = Simulation()
        self.collectors: Mock = mocker.create_autospec(CollectorSet, instance=True)
        self.collectors.is_gone.return_value = False
        self.sampler: Mock = mocker.create_autospec(Sampler, instance=True)
        self.sink: Mock = mocker.create_autospec(Sink, instance=True)
        mocker.patch.object(recorder_module, "time", self.clock)

    def opened(self, settings: Settings, **arguments: Any) -> Recorder:  # noqa: ANN401 - the rest
        recorder = Recorder(
            settings,
            self.collectors,
            self.sink,
            self.sampler,
            self.clock,
            **arguments,
        )
        recorder.open()
        return recorder

    def at_the_end(self, *values: dict[str, float]) -> None:
        """Let the sampler hand over these samples when it is asked for the last."""

        def finish(subscriber: Subscriber, _timeout_s: float) -> bool:
            for each in values:
                subscriber.take(self.sample(**each))
            return True

        self.sampler.finish.side_effect = finish

    def sample(self, **values: float) -> list[Readings]:
        return [Readings(self.clock.now_s(), values)]

    @property
    def logged(self) -> list[Point]:
        return [
            point
            for call in self.sink.put.call_args_list
            for point in call.args[0].points(first_step=0)
        ]


@pytest.fixture
def bench(mocker: MockerFixture) -> Bench:
    return Bench(mocker)


def take(bench: Bench, recorder: Recorder, time_s: float, **values: float) -> None:
    bench.clock.time_s = time_s
    recorder.take(bench.sample(**values))


def test_opening_begins_sampling(bench: Bench) -> None:
    recorder = bench.opened(Settings(sampling_interval_s=2.5))

    bench.sampler.subscribe.assert_called_once_with(recorder)
    assert recorder.interval_s == 2.5


def test_a_point_is_logged_with_each_full_window(bench: Bench) -> None:
    recorder = bench.opened(Settings(samples_before_logging=2))

    for time_s, value in enumerate([900.0, 1.0, 3.0, 10.0, 20.0, 5.0]):
        take(bench, recorder, time_s, **{GAUGE: value})

    assert bench.logged == [
        Point(GAUGE, 2.0, OPENED_MS + 2000, step=0),
        Point(GAUGE, 15.0, OPENED_MS + 4000, step=1),
    ]


def test_timestamps_follow_the_steady_clock(bench: Bench, mocker: MockerFixture) -> None:
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0, **{GAUGE: 1.0})
    mocker.patch.object(bench.clock, "wall_ms", return_value=0)  # somebody sets the wall clock

    take(bench, recorder, 10.5, **{GAUGE: 1.0})

    (point,) = bench.logged
    assert point.timestamp_ms == OPENED_MS + 10_500
    assert isinstance(point.timestamp_ms, int)


def test_a_last_sample_in_the_millisecond_of_a_tick_has_a_time_of_its_own(bench: Bench) -> None:
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0, **{GAUGE: 1.0})
    take(bench, recorder, 10.0, **{GAUGE: 2.0})
    take(bench, recorder, 10.0003, **{GAUGE: 3.0})
    take(bench, recorder, 10.0004, **{GAUGE: 4.0})

    assert [point.timestamp_ms - OPENED_MS for point in bench.logged] == [10_000, 10_001, 10_002]


def test_a_window_with_nothing_to_log_takes_no_step(bench: Bench) -> None:
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0)
    take(bench, recorder, 10.0)
    take(bench, recorder, 20.0, **{GAUGE: 7.0})

    assert [(point.value, point.step) for point in bench.logged] == [(7.0, 0)]


def test_only_what_is_wanted_is_logged(bench: Bench) -> None:
    recorder = bench.opened(Settings(include=("*_megabytes",), exclude=("disk_*",)))
    take(bench, recorder, 0.0)
    take(bench, recorder, 10.0, **{GAUGE: 1.0, OTHER_GAUGE: 2.0, "cpu/load_average_1m": 3.0})

    assert [point.key for point in bench.logged] == [GAUGE]


def test_the_process_trees_metrics_may_have_another_prefix(bench: Bench) -> None:
    recorder = bench.opened(Settings(include=("process/*", GAUGE)), prefix="loader/")
    take(bench, recorder, 0.0)
    take(bench, recorder, 10.0, **{GAUGE: 1.0, "process/num_threads": 4.0})

    assert [point.key for point in bench.logged] == [GAUGE, "loader/num_threads"]


def test_samples_share_their_keys(bench: Bench) -> None:
    """Else those that wait would take half as much again of memory as is reckoned."""
    recorder = bench.opened(Settings(), prefix="loader/")
    for tick in range(3):
        made_anew = f"gpu_{tick // 3}_utilization_percentage"
        take(bench, recorder, tick * 10.0, **{made_anew: 1.0, "process/num_threads": 4.0})

    first, second = (call.args[0].values for call in bench.sink.put.call_args_list)
    assert first.keys() == {"gpu_0_utilization_percentage", "loader/num_threads"}
    assert all(key is same for key, same in zip(first, second, strict=True))


def test_sampling_that_cannot_begin_ends_sending(bench: Bench) -> None:
    bench.sampler.subscribe.side_effect = RuntimeError("at interpreter shutdown")

    with pytest.raises(RuntimeError, match="shutdown"):
        bench.opened(Settings())

    bench.sink.end.assert_called_once_with()


# The end


def test_the_end_logs_a_last_sample(bench: Bench) -> None:
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0, **{GAUGE: 1.0})
    bench.clock.time_s = 2.0
    bench.at_the_end({GAUGE: 5.0})

    recorder.close()

    assert bench.logged == [Point(GAUGE, 5.0, OPENED_MS + 2000, step=0)]


def test_the_end_logs_a_window_that_is_not_full(bench: Bench) -> None:
    recorder = bench.opened(Settings(samples_before_logging=10))
    take(bench, recorder, 0.0, **{GAUGE: 900.0})
    take(bench, recorder, 10.0, **{GAUGE: 1.0})
    bench.clock.time_s = 15.0
    bench.at_the_end({GAUGE: 3.0})

    recorder.close()

    assert bench.logged == [Point(GAUGE, 2.0, OPENED_MS + 15_000, step=0)]


def test_without_a_last_sample_what_there_is_is_logged(bench: Bench) -> None:
    bench.sampler.finish.return_value = False
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0, **{GAUGE: 4.0})
    bench.clock.time_s = 2.0

    recorder.close()

    assert bench.logged == [Point(GAUGE, 4.0, OPENED_MS, step=0)]


def test_a_run_under_a_second_that_saw_no_tick_is_not_logged(bench: Bench) -> None:
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0, **{GAUGE: 1.0})
    bench.clock.time_s = 0.9

    recorder.close()

    bench.sampler.unsubscribe.assert_called_once_with(recorder)
    bench.sampler.finish.assert_not_called()
    assert bench.logged == []
    bench.sink.close.assert_called_once()


@pytest.mark.parametrize("samples_before_logging", [1, 100])
def test_a_run_under_a_second_that_saw_a_tick_is_logged(
    bench: Bench, samples_before_logging: int
) -> None:
    recorder = bench.opened(
        Settings(sampling_interval_s=0.1, samples_before_logging=samples_before_logging)
    )
    take(bench, recorder, 0.0, **{GAUGE: 1.0})
    take(bench, recorder, 0.1, **{GAUGE: 1.0})
    bench.clock.time_s = 0.15
    bench.at_the_end({GAUGE: 1.0})

    recorder.close()

    assert bench.logged[-1].timestamp_ms == OPENED_MS + 150


@pytest.mark.parametrize(
    ("flush_timeout_s", "for_sample_s", "for_store_s"),
    [(5.0, 2.0, 4.0), (2.0, 0.5, 1.0), (1.0, 0.25, 0.5), (0.0, 0.0, 0.0)],
)
def test_the_last_sample_the_store_and_the_disk_share_the_flush_timeout(
    bench: Bench, flush_timeout_s: float, for_sample_s: float, for_store_s: float
) -> None:
    recorder = bench.opened(Settings(flush_timeout_s=flush_timeout_s))
    bench.clock.time_s = 60.0

    def finish(_subscriber: Subscriber, _timeout_s: float) -> bool:
        bench.clock.pass_time(for_sample_s)
        return True

    bench.sampler.finish.side_effect = finish

    recorder.close()

    bench.sampler.finish.assert_called_once_with(recorder, for_sample_s)
    bench.sink.close.assert_called_once_with(for_store_s - for_sample_s)


def test_the_end_begins_to_send_before_it_waits(bench: Bench) -> None:
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0, **{GAUGE: 1.0})
    bench.clock.time_s = 2.0

    recorder.stop(deadline_s=4.5)
    bench.sampler.finish.assert_called_once_with(recorder, 2.5)
    bench.sink.end.assert_called_once_with()
    bench.sink.close.assert_not_called()

    recorder.deliver(deadline_s=4.5)
    bench.sink.close.assert_called_once_with(2.5)


def test_a_deadline_that_has_passed_is_no_time_to_wait(bench: Bench) -> None:
    recorder = bench.opened(Settings())
    bench.clock.time_s = 7.0

    recorder.deliver(deadline_s=5.0)

    bench.sink.close.assert_called_once_with(-2.0)  # the disk has less, too


def test_ctrl_c_at_the_end_does_not_cost_what_there_is(bench: Bench) -> None:
    bench.sampler.finish.side_effect = KeyboardInterrupt
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0, **{GAUGE: 1.0})
    bench.clock.time_s = 2.0

    with pytest.raises(KeyboardInterrupt):
        recorder.close()

    assert [point.value for point in bench.logged] == [1.0]
    bench.sink.close.assert_called_once_with(4.0)


def test_a_run_that_has_ended_is_sampled_no_more_and_waits_for_nothing(bench: Bench) -> None:
    recorder = bench.opened(Settings(samples_before_logging=10))
    take(bench, recorder, 0.0, **{GAUGE: 1.0})
    take(bench, recorder, 10.0, **{GAUGE: 3.0})

    recorder.end()

    assert [point.value for point in bench.logged] == [3.0]
    bench.sampler.unsubscribe.assert_called_once_with(recorder)
    bench.sink.end.assert_called_once_with()
    bench.sink.close.assert_not_called()


# The end of the process that is followed


def test_when_the_process_has_ended_what_there_is_is_logged_and_sampling_ends(
    bench: Bench, mocker: MockerFixture
) -> None:
    tell = mocker.Mock()
    recorder = bench.opened(Settings(samples_before_logging=10), on_process_end=tell)
    take(bench, recorder, 0.0, **{"process/cpu_seconds": 1.0, GAUGE: 900.0})
    take(bench, recorder, 10.0, **{"process/cpu_seconds": 6.0, GAUGE: 3.0})
    tell.assert_not_called()

    bench.collectors.is_gone.side_effect = lambda name: name == "process_tree"
    take(bench, recorder, 20.0, **{GAUGE: 7.0})

    assert bench.logged == [
        Point("process/cpu_usage_percentage", 50.0, OPENED_MS + 10_000, step=0),
        Point(GAUGE, 3.0, OPENED_MS + 10_000, step=0),
    ]
    bench.sampler.unsubscribe.assert_called_once_with(recorder)
    tell.assert_called_once_with()


def test_a_sample_without_the_process_is_not_its_end(bench: Bench, mocker: MockerFixture) -> None:
    tell = mocker.Mock()
    recorder = bench.opened(Settings(), on_process_end=tell)
    take(bench, recorder, 0.0, **{"process/cpu_seconds": 1.0})
    take(bench, recorder, 10.0)  # it was too dear to be asked, or failed
    take(bench, recorder, 20.0, **{"process/cpu_seconds": 11.0})

    assert [point.value for point in bench.logged] == [50.0]
    tell.assert_not_called()


def test_a_run_that_follows_no_process_goes_on_without_one(bench: Bench) -> None:
    bench.collectors.is_gone.return_value = True
    recorder = bench.opened(Settings())
    take(bench, recorder, 0.0)
    take(bench, recorder, 10.0, **{GAUGE: 7.0})

    assert [point.value for point in bench.logged] == [7.0]
    bench.sampler.unsubscribe.assert_not_called()


def test_tags_and_summary_are_logged_between_windows_and_after_the_last(bench: Bench) -> None:
    recorder = bench.opened(Settings(exclude=("*",)))
    recorder.put(tags={"sys.findings": "a leak"})
    recorder.put(summary={"summary/cpu_utilization_percentage_mean": 3.0})

    first, second = (call.args[0] for call in bench.sink.put.call_args_list)
    assert (first.values, first.samples, first.tags) == ({}, 0, {"sys.findings": "a leak"})
    assert second.summary == {"summary/cpu_utilization_percentage_mean": 3.0}
    assert first.step < second.step
    assert first.timestamp_ms < second.timestamp_ms
