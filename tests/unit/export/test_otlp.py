"""The exporter for OTLP and a receiver that decodes what it gets."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from fakes.otlp_receiver import OtlpReceiver, running_receiver
from fakes.simulation import LONG_S
from fakes.waiting import eventually
from mlflow_sysmetrics.catalog import exported_as, metric_of
from mlflow_sysmetrics.export import otlp
from mlflow_sysmetrics.export.contract import CannotExport, ExportedRun, Measurement, Sample
from mlflow_sysmetrics.export.otlp import OtlpExporter, open_otlp
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_mock import MockerFixture

    from mlflow_sysmetrics.catalog.exported import Attributes, Exported

OPENED_S = 1_800_000_000.0
RUN = ExportedRun("a1", Settings(), dict)
INFO: Attributes = (("experiment", "pairs"), ("host", "gpu-7"), ("series_run_id", "a1"))


def series(key: str) -> Exported:
    exported = exported_as(metric_of(key))
    assert exported is not None
    return exported


CPU = series("cpu_utilization_percentage")
MEMORY = series("system_memory_usage_megabytes")
READ = series("disk/read_megabytes_per_second")
WRITTEN = series("disk/write_megabytes_per_second")
GPU = series("gpu_3_utilization_percentage")


def sample(second: int, run: ExportedRun = RUN, **values: float) -> Sample:
    """One that was taken so many seconds after the run opened; 1 kB is read in each."""
    time_s = OPENED_S + second
    measured = [
        Measurement(CPU, values.get("cpu", 0.5), time_s),
        Measurement(MEMORY, 8e9, time_s),
        Measurement(READ, 1000.0 * second, time_s),
        Measurement(GPU, 0.9, time_s),
    ]
    return Sample(run, run.run_id, OPENED_S, time_s, measured, INFO)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """One that the variables name, with a password in its address."""
    monkeypatch.setattr(otlp, "PACE_S", 0.0)
    with running_receiver() as receiver:
        address = receiver.url.replace("http://", "http://user:p4ssw0rd@")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", address)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")  # no retry of the exporter's
        yield receiver


@pytest.fixture
def exporter(receiver: OtlpReceiver) -> OtlpExporter:
    return open_otlp("otlp")


def closed(exporter: OtlpExporter, run: ExportedRun = RUN) -> None:
    exporter.end(run)
    exporter.wait(LONG_S)


def has_received(receiver: OtlpReceiver, samples: int) -> bool:
    return len(receiver.of("system.disk.io")) == samples


def attempted(exporter: OtlpExporter, receiver: OtlpReceiver, attempts: int) -> None:
    """Wait until one attempt more has been made."""
    eventually(lambda: receiver.requests > attempts and not exporter._under_way)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


# What arrives


def test_values_arrive_with_the_times_at_which_they_were_read(
    receiver: OtlpReceiver, exporter: OtlpExporter
) -> None:
    exporter.put(sample(1, cpu=0.25))
    exporter.put(sample(2, cpu=0.75))
    closed(exporter)

    found = receiver.of("system.cpu.utilization")
    assert [(each.value, each.time_ns) for each in found] == [
        (0.25, 1_800_000_001_000_000_000),
        (0.75, 1_800_000_002_000_000_000),
    ]
    assert {(each.unit, each.kind) for each in found} == {("1", "gauge")}


def test_a_series_has_the_labels_of_its_run_and_what_the_conventions_ask_for(
    receiver: OtlpReceiver, exporter: OtlpExporter
) -> None:
    exporter.put(sample(1))
    closed(exporter)

    assert receiver.of("hw.gpu.utilization")[0].labels == {
        "run_id": "a1",
        "node": "0",
        "gpu": "3",
        "hw.id": "3",
        "hw.type": "gpu",
        "hw.gpu.task": "general",
    }
    assert receiver.of("system.memory.usage")[0].labels == {
        "run_id": "a1",
        "node": "0",
        "system.memory.state": "used",
    }


def test_names_of_the_run_are_on_one_series_and_on_the_resource(
    receiver: OtlpReceiver, exporter: OtlpExporter
) -> None:
    exporter.put(sample(1))
    exporter.put(sample(2))
    closed(exporter)

    (info,) = {str(each.labels) for each in receiver.of("mlflow.sysmetrics.run.info")}
    assert "'experiment': 'pairs'" in info
    resource = receiver.points[0].resource
    assert resource["service.name"] == "mlflow-sysmetrics"
    assert resource["service.instance.id"] == "a1/0"
    assert resource["host.name"] == "gpu-7"
    assert "pairs" not in str(receiver.of("system.cpu.utilization")[0].labels)


def test_a_host_that_was_excluded_is_not_named(
    receiver: OtlpReceiver, exporter: OtlpExporter
) -> None:
    exporter.put(replace(sample(1), info=(("experiment", "pairs"),)))
    closed(exporter)

    assert "host.name" not in receiver.points[0].resource


def test_a_training_that_seeds_random_gets_the_same_numbers(
    receiver: OtlpReceiver, exporter: OtlpExporter
) -> None:
    before = random.getstate()

    exporter.put(sample(1, cpu=0.25))
    closed(exporter)

    assert receiver.of("system.cpu.utilization")
    assert random.getstate() == before


def test_the_users_own_service_name_and_headers_are_sent(
    receiver: OtlpReceiver, exporter: OtlpExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "trainings")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "dd-api-key=0123")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    exporter.put(sample(1))
    closed(exporter)

    assert receiver.points[0].resource["service.name"] == "trainings"
    assert receiver.points[0].resource["deployment.environment.name"] == "lab"
    assert receiver.headers[0]["dd-api-key"] == "0123"
    assert receiver.headers[0]["Content-Encoding"] == "gzip"


def test_counters_count_from_the_opening_of_the_run(
    receiver: OtlpReceiver, exporter: OtlpExporter
) -> None:
    exporter.put(sample(1))
    exporter.put(sample(2))
    closed(exporter)

    found = receiver.of("system.disk.io")
    assert [each.value for each in found] == [1000, 2000]
    assert {(each.kind, each.is_monotonic) for each in found} == {("cumulative", True)}
    assert {each.started_ns for each in found} == {1_800_000_000_000_000_000}


def test_a_resumed_run_counts_from_where_it_was_resumed(
    receiver: OtlpReceiver, exporter: OtlpExporter
) -> None:
    exporter.put(sample(1))
    closed(exporter)
    resumed = ExportedRun("a1", Settings(), dict)
    exporter.put(replace(sample(60, resumed), started_s=OPENED_S + 59))
    closed(exporter, resumed)

    assert [each.started_ns // 10**9 - OPENED_S for each in receiver.of("system.disk.io")] == [
        0,
        59,
    ]


@pytest.mark.parametrize("preference", ["delta", "DELTA", "lowmemory"])
def test_counters_are_sent_as_what_they_rose_by_where_that_is_preferred(
    receiver: OtlpReceiver,
    exporter: OtlpExporter,
    monkeypatch: pytest.MonkeyPatch,
    preference: str,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    for second in (1, 2, 5):
        exporter.put(sample(second))
    closed(exporter)

    found = receiver.of("system.disk.io")
    assert [(each.kind, each.value) for each in found] == [
        ("delta", 1000),
        ("delta", 1000),
        ("delta", 3000),
    ]
    assert [(each.started_ns // 10**9, each.time_ns // 10**9) for each in found] == [
        (OPENED_S, OPENED_S + 1),
        (OPENED_S + 1, OPENED_S + 2),
        (OPENED_S + 2, OPENED_S + 5),
    ]
    assert {each.kind for each in receiver.of("system.memory.usage")} == {"cumulative"}


# Outages


def test_what_an_outage_held_up_arrives_after_it_with_its_own_times(
    receiver: OtlpReceiver, exporter: OtlpExporter, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.is_down = True
    for second in (1, 2, 3):
        exporter.put(sample(second))
        attempts = receiver.requests
        exporter.end(RUN)
        attempted(exporter, receiver, attempts)
    receiver.is_down = False
    closed(exporter)

    assert [each.time_ns // 10**9 for each in receiver.of("system.cpu.utilization")] == [
        OPENED_S + 1,
        OPENED_S + 2,
        OPENED_S + 3,
    ]
    away, back = warnings(caplog)
    assert "takes no samples now" in away
    assert "503" in away
    assert "takes samples again" in back
    assert "p4ssw0rd" not in caplog.text


def test_an_outage_costs_no_increase_where_increases_are_sent(
    receiver: OtlpReceiver, exporter: OtlpExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setattr(otlp, "_MAX_WAITING", 10)  # two samples of five
    receiver.is_down = True
    for second in range(1, 8):
        exporter.put(sample(second))
    eventually(lambda: receiver.requests and not exporter._under_way)
    receiver.is_down = False
    closed(exporter)

    found = receiver.of("system.disk.io")
    assert len(found) < 7
    assert sum(each.value for each in found) == 7000
    assert found[-1].time_ns // 10**9 == OPENED_S + 7


def test_a_second_outage_is_not_warned_of_again(
    receiver: OtlpReceiver, exporter: OtlpExporter, caplog: pytest.LogCaptureFixture
) -> None:
    for second in (1, 2):
        receiver.statuses = [503]
        exporter.put(sample(second))
        eventually(partial(has_received, receiver, second))

    assert len(warnings(caplog)) == 2


def test_what_the_receiver_refuses_is_given_up_and_later_samples_are_sent(
    receiver: OtlpReceiver, exporter: OtlpExporter, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [401]
    exporter.put(sample(1))
    closed(exporter)
    exporter.put(sample(2))
    closed(exporter)

    assert [each.value for each in receiver.of("system.disk.io")] == [2000]
    refused, taken = warnings(caplog)
    assert "401 Unauthorized" in refused
    assert "OTEL_EXPORTER_OTLP_" in refused
    assert "1 samples were lost" in taken


def test_a_receiver_that_does_not_exist_is_told_once_and_opentelemetry_says_nothing(
    receiver: OtlpReceiver,
    exporter: OtlpExporter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:1/v1/metrics")
    for second in (1, 2):
        exporter.put(sample(second))
        exporter.end(RUN)
    exporter.wait(2)

    (said,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.INFO]
    assert "takes no samples now" in said
    assert said.endswith("Connection refused")


# The end of a run


def test_the_end_of_a_run_waits_no_longer_for_a_receiver_that_hangs_than_it_is_told(
    receiver: OtlpReceiver, exporter: OtlpExporter, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.hang()
    exporter.put(sample(1))
    exporter.end(RUN)

    ended = threading.Thread(target=exporter.wait, args=(0.2,))
    ended.start()
    ended.join(LONG_S)

    assert not ended.is_alive()
    assert "takes no samples now" in warnings(caplog)[0]


def test_nested_runs_wait_but_once_for_a_receiver_that_hangs(
    receiver: OtlpReceiver, exporter: OtlpExporter, mocker: MockerFixture
) -> None:
    receiver.hang()
    exporter.put(sample(1))
    exporter.wait(0.2)
    wait_for = mocker.spy(exporter._condition, "wait_for")

    exporter.wait(LONG_S)

    assert wait_for.call_args.args[1] == 0.0


def test_a_run_that_ends_at_once_is_delivered(
    receiver: OtlpReceiver, exporter: OtlpExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "PACE_S", LONG_S)
    exporter.put(sample(1))
    eventually(lambda: receiver.points)
    exporter.put(sample(2))
    closed(exporter)

    assert [each.value for each in receiver.of("system.disk.io")] == [1000, 2000]


def test_a_run_that_is_sampled_often_makes_few_requests(
    receiver: OtlpReceiver, exporter: OtlpExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "PACE_S", LONG_S)
    exporter.put(sample(1))
    eventually(lambda: receiver.points)
    for second in range(2, 50):
        exporter.put(sample(second))
    closed(exporter)

    assert receiver.requests == 2
    assert len(receiver.of("system.disk.io")) == 49


def test_a_request_is_no_larger_than_receivers_take(
    receiver: OtlpReceiver, exporter: OtlpExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "_MAX_REQUEST", 12)  # two samples of five
    receiver.is_down = True
    for second in range(1, 8):
        exporter.put(sample(second))
    receiver.is_down = False
    closed(exporter)

    assert [each.value for each in receiver.of("system.disk.io")] == [
        1000.0 * second for second in range(1, 8)
    ]
    assert receiver.requests >= 4


# Forks, and what is missing


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks")
def test_a_forked_child_sends_nothing_of_its_parents(
    receiver: OtlpReceiver, exporter: OtlpExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "PACE_S", LONG_S)
    exporter.put(sample(1))
    eventually(lambda: receiver.points)
    exporter.put(sample(2))

    child = os.fork()
    if child == 0:
        exporter.after_fork_in_child()
        exporter.end(RUN)
        exporter.wait(0.1)
        os._exit(0 if exporter._has_sent_all() and exporter._thread is None else 1)
    _, status = os.waitpid(child, 0)
    closed(exporter)

    assert status == 0
    assert [each.value for each in receiver.of("system.disk.io")] == [1000, 2000]


def test_the_thread_ends_after_the_last_run_and_comes_again_with_the_next(
    receiver: OtlpReceiver, exporter: OtlpExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "LINGER_S", 0.0)
    exporter.put(sample(1))
    closed(exporter)
    eventually(lambda: exporter._thread is None)
    exporter.put(sample(2))
    closed(exporter)

    assert [each.value for each in receiver.of("system.disk.io")] == [1000, 2000]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)

    with pytest.raises(CannotExport, match=r"pip install 'mlflow-sysmetrics\[otlp\]'"):
        open_otlp("otlp")


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({}, "http://localhost:4318/v1/metrics"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/metrics"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "https://u:secret@x/otlp?token=secret",
            },
            "https://x/otlp",
        ),
    ],
)
def test_the_receiver_is_where_the_standard_variables_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], shown: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert otlp.receiver_address() == shown
