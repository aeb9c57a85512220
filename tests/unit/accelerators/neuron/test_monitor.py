from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_sysmetrics.accelerators.neuron.collector import CoreUse, parse_neuron_monitor
from mlflow_sysmetrics.sources import ParseError

COMMANDS = Path(__file__).parents[3] / "data/commands"


def recorded(name: str) -> str:
    return (COMMANDS / f"neuron-monitor-{name}.json").read_text()


def test_what_several_runtimes_report_of_a_core_is_added_up() -> None:
    use = parse_neuron_monitor(recorded("two-runtimes"))

    assert use.utilization_percent == pytest.approx({0: 2.926414908, 1: 3.08030982, 2: 0, 3: 0})
    assert use.memory_bytes == {0: 63105088, 1: 63105088, 2: 0, 3: 0}


def test_a_report_may_lack_the_memory_of_each_core() -> None:
    use = parse_neuron_monitor(recorded("without-breakdown"))

    assert use.utilization_percent == pytest.approx({0: 89.400872, 1: 88.1})
    assert use.memory_bytes == {}


def test_no_core_is_reported_while_none_is_in_use() -> None:
    assert parse_neuron_monitor(recorded("idle")) == CoreUse({}, {})
    assert parse_neuron_monitor('{"neuron_runtime_data": null}') == CoreUse({}, {})


def in_use(cores: str) -> str:
    report = f'{{"neuroncore_counters": {{"neuroncores_in_use": {cores}}}}}'
    return f'{{"neuron_runtime_data": [{{"report": {report}}}]}}'


@pytest.mark.parametrize(
    "core",
    [
        '"-1": {"neuroncore_utilization": 1}',
        '"1": {"neuroncore_utilization": NaN}',
        '"1": {"neuroncore_utilization": -3}',
    ],
)
def test_a_core_that_reports_no_amount_costs_no_other(core: str) -> None:
    text = in_use(f'{{{core}, "0": {{"neuroncore_utilization": 2.5}}}}')

    assert parse_neuron_monitor(text) == CoreUse({0: 2.5}, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "neuron-monitor: no neuron device found",
        '{"neuron_runtime_data": [{"pid": 1}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_neuron_monitor(text)
