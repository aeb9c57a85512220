from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.simulation import Simulation
from fakes.waiting import eventually
from mlflow_sysmetrics.accelerators.neuron.collector import NeuronCollector, open_neuron
from mlflow_sysmetrics.catalog import metrics_of
from mlflow_sysmetrics.host.backoff import FIRST_PAUSE_S, LONGEST_PAUSE_S
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_mock import MockerFixture

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it needs a POSIX shell")

COMMANDS = Path(__file__).parents[3] / "data/commands"
REPORT = COMMANDS / "neuron-monitor-two-runtimes.json"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with a Neuron device."""
    (tmp_path / "root/dev").mkdir(parents=True)
    (tmp_path / "root/dev/neuron0").touch()
    return Host(root=tmp_path / "root", system="Linux", environ={}, clock=Simulation())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a `neuron-monitor` on the PATH that notes each start in the file `starts`."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def install_script(script: str) -> None:
        executable = tmp_path / "neuron-monitor"
        executable.write_text(f"#!/bin/sh\necho >> '{tmp_path}/starts'\n{script}\n")
        executable.chmod(0o755)

    return install_script


@pytest.fixture
def collector(host: Host, install: Callable[[str], None]) -> Iterator[NeuronCollector]:
    """With a command that reports once and stays."""
    install(f"cat '{REPORT}'; exec sleep 60")
    collector = open_neuron(host)
    yield collector
    collector.close()


def starts(host: Host) -> int:
    path = host.root.parent / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def first_readings(collector: NeuronCollector) -> dict[str, float]:
    return eventually(collector.collect)


def fail(collector: NeuronCollector) -> str:
    """Ask until the command has ended, and return what is said then."""

    def reason() -> str:
        try:
            collector.collect()
        except Unavailable as unavailable:
            return str(unavailable)
        return ""

    return eventually(reason)


def test_use_of_each_core_is_read_and_added_up(collector: NeuronCollector) -> None:
    readings = first_readings(collector)

    assert readings["neuron_0/utilization_percentage"] == pytest.approx(2.926, abs=1e-3)
    assert readings["neuron_1/utilization_percentage"] == pytest.approx(3.080, abs=1e-3)
    assert readings["neuron_2/utilization_percentage"] == 0
    assert readings["neuron_0/memory_usage_megabytes"] == pytest.approx(63.105, abs=1e-3)
    assert readings["neuron_3/memory_usage_megabytes"] == 0
    assert len(readings) == 8
    assert all(metrics_of(name) for name in readings)


def test_a_report_is_handed_over_once(collector: NeuronCollector) -> None:
    first_readings(collector)

    assert collector.collect() == {}


def test_nothing_is_started_before_it_is_asked_for(collector: NeuronCollector, host: Host) -> None:
    assert starts(host) == 0
    first_readings(collector)
    assert starts(host) == 1


def test_no_core_is_in_a_report_while_nothing_uses_any(host: Host, mocker: MockerFixture) -> None:
    stream = mocker.patch.object(Host, "stream").return_value
    stream.latest.return_value = (COMMANDS / "neuron-monitor-idle.json").read_text()

    assert NeuronCollector(host).collect() == {}


def test_a_command_that_ended_is_started_again_after_growing_pauses(
    host: Host, install: Callable[[str], None]
) -> None:
    install("exit 1")
    collector = open_neuron(host)
    clock = host.clock
    assert isinstance(clock, Simulation)

    assert "neuron-monitor has ended" in fail(collector)
    assert collector.collect() == {}  # it is left alone now
    clock.pass_time(FIRST_PAUSE_S)
    fail(collector)
    clock.pass_time(FIRST_PAUSE_S)
    assert collector.collect() == {}
    assert starts(host) == 2
    clock.pass_time(FIRST_PAUSE_S)
    fail(collector)
    assert starts(host) == 3


def test_pauses_are_short_again_once_it_reports(host: Host, mocker: MockerFixture) -> None:
    collector = NeuronCollector(host)
    stream = mocker.patch.object(Host, "stream", side_effect=Unavailable("no"))
    clock = host.clock
    assert isinstance(clock, Simulation)
    for _ in range(20):
        with pytest.raises(Unavailable):
            collector.collect()
        clock.pass_time(LONGEST_PAUSE_S)

    stream.side_effect = None
    stream.return_value.latest.side_effect = [REPORT.read_text(), Unavailable("ended")]
    assert collector.collect()
    with pytest.raises(Unavailable, match="ended"):
        collector.collect()
    clock.pass_time(FIRST_PAUSE_S)
    stream.return_value.latest.side_effect = [REPORT.read_text()]
    assert collector.collect()


def test_what_is_no_report_costs_this_sample_alone(
    host: Host, install: Callable[[str], None], mocker: MockerFixture
) -> None:
    collector = NeuronCollector(host)
    stream = mocker.patch.object(Host, "stream").return_value
    stream.latest.side_effect = ["Traceback", REPORT.read_text()]

    with pytest.raises(ParseError, match="Traceback"):
        collector.collect()

    assert collector.collect()
    stream.close.assert_not_called()


def test_closing_ends_the_command(collector: NeuronCollector) -> None:
    first_readings(collector)
    stream = collector._stream
    assert stream is not None

    collector.close()
    collector.close()

    eventually(lambda: stream._ended)


def test_without_a_device_or_the_command_there_are_none(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable, match="neuron-monitor is not installed"):
        open_neuron(host)
    with pytest.raises(Unavailable, match="no Neuron device"):
        open_neuron(Host(root=tmp_path, system="Linux"))
