"""What a real training sends over OTLP, as a receiver decodes it."""

from __future__ import annotations

import itertools
import socket
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from fakes.otlp_receiver import OtlpReceiver, running_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.launcher import Launcher

TRAINING = """
import mlflow, os, time
from observation import report
with mlflow.start_run(run_id=os.environ.get("RESUME")):
    for _ in range(int(os.environ.get("STEPS", "12"))):
        time.sleep(0.1)
report()
"""

FORKING = """
import mlflow, os, time
from observation import report
with mlflow.start_run():
    time.sleep(0.5)
    for _ in range(3):
        if os.fork() == 0:  # as a worker of a data loader, which outlives some samples
            time.sleep(0.7)
            os._exit(0)
    time.sleep(0.5)
    for _ in range(3):
        os.wait()
report()
"""


@pytest.fixture
def receiver(launcher: Launcher) -> Iterator[OtlpReceiver]:
    """One to which the trainings of the launcher export."""
    with running_receiver() as receiver:
        launcher.variables.update(
            MLFLOW_SYSMETRICS_EXPORT="otlp",
            MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="0.3",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=receiver.url,
        )
        yield receiver


def test_the_receiver_gets_the_values_that_the_run_has_logged(
    launcher: Launcher, receiver: OtlpReceiver
) -> None:
    outcome = launcher.run(TRAINING)
    run = outcome.observation.run

    logged = run.system["system_memory_usage_megabytes"]
    sent = receiver.of("system.memory.usage", run_id=run.run_id)
    assert len(logged) >= 3
    for point in logged:  # with its own time, which is that of the slowest collector's reading
        nearest = min(
            (abs(each.time_ns // 10**6 - point.timestamp_ms), each.value) for each in sent
        )
        assert nearest[0] < 150
        assert nearest[1] == pytest.approx(point.value * 1e6, abs=600)
    received = receiver.of("system.network.io", network_io_direction="receive")[-1]
    assert received.value == pytest.approx(
        run.system["network_receive_megabytes"][-1].value * 1e6, abs=600
    )
    assert outcome.warnings == []


def test_all_points_carry_the_run_and_none_comes_twice(
    launcher: Launcher, receiver: OtlpReceiver
) -> None:
    run = launcher.run(TRAINING).observation.run

    assert {each.labels["run_id"] for each in receiver.points} == {run.run_id}
    times = Counter((each.name, str(each.labels), each.time_ns) for each in receiver.points)
    assert times.most_common(1)[0][1] == 1


def test_the_names_of_the_run_are_on_its_info_series(
    launcher: Launcher, receiver: OtlpReceiver
) -> None:
    run = launcher.run(TRAINING, MLFLOW_EXPERIMENT_NAME="pairs").observation.run

    info = receiver.of("mlflow.sysmetrics.run.info")[-1].labels
    assert info["experiment"] == "pairs"
    assert info["run_name"] == run.name


def test_a_host_that_is_excluded_stands_in_nothing_that_is_sent(
    launcher: Launcher, receiver: OtlpReceiver
) -> None:
    launcher.run(TRAINING, MLFLOW_SYSMETRICS_EXCLUDE_TAGS="sys.hostname")

    assert receiver.points
    assert socket.gethostname() not in str(receiver.points)


def test_a_run_shorter_than_the_interval_is_delivered(
    launcher: Launcher, receiver: OtlpReceiver
) -> None:
    launcher.run(TRAINING, MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="60")

    assert len(receiver.of("system.memory.usage")) == 2  # as it opens, and as it closes


def test_forked_workers_send_nothing(launcher: Launcher, receiver: OtlpReceiver) -> None:
    run = launcher.run(FORKING).observation.run

    times = Counter((each.name, str(each.labels), each.time_ns) for each in receiver.points)
    assert times.most_common(1)[0][1] == 1
    assert max(each.value for each in receiver.of("mlflow.sysmetrics.process.processes")) == 4
    assert run.status == "FINISHED"


def test_counters_of_a_resumed_run_start_anew(launcher: Launcher, receiver: OtlpReceiver) -> None:
    run = launcher.run(TRAINING).observation.run
    launcher.run(TRAINING, RESUME=run.run_id)

    counted = receiver.of("process.cpu.time", run_id=run.run_id)
    starts = sorted({each.started_ns for each in counted})
    assert len(starts) == 2
    resumed = [each for each in counted if each.started_ns == starts[1]]
    assert min(each.time_ns for each in resumed) >= starts[1]
    assert min(each.value for each in resumed) < max(each.value for each in counted)


def test_increases_add_up_to_what_is_counted(launcher: Launcher, receiver: OtlpReceiver) -> None:
    run = launcher.run(
        TRAINING, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta"
    ).observation.run

    increases = receiver.of("system.network.io", network_io_direction="receive")
    assert {each.kind for each in increases} == {"delta"}
    assert sum(each.value for each in increases) == pytest.approx(
        run.system["network_receive_megabytes"][-1].value * 1e6, abs=600
    )
    spans = [(each.started_ns, each.time_ns) for each in increases]
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_training_ends_in_time_and_well_beside_a_receiver_that_hangs(
    launcher: Launcher, receiver: OtlpReceiver
) -> None:
    receiver.hang()
    outcome = launcher.run(TRAINING, MLFLOW_SYSMETRICS_FLUSH_TIMEOUT="2")

    assert outcome.observation.run.status == "FINISHED"
    assert len(outcome.observation.run.system["system_memory_usage_megabytes"]) >= 3
    (said,) = outcome.warnings
    assert "OTLP receiver" in said


def test_variables_of_opentelemetry_alone_export_nothing(
    launcher: Launcher, receiver: OtlpReceiver
) -> None:
    launcher.run(TRAINING, MLFLOW_SYSMETRICS_EXPORT="")

    assert not receiver.of("system.memory.usage")
