"""Every metric and tag: its name, its unit, and that what collectors read is in the catalog."""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name, _validate_tag_name

from fakes.fake_nvml import h100
from mlflow_sysmetrics.catalog import (
    MAX_TAG_LENGTH,
    METRICS,
    PREFIX,
    TAGS,
    Aggregate,
    metric_of,
    metrics_of,
)
from mlflow_sysmetrics.catalog.model import EVERYWHERE, LINUX, LINUX_AND_MACOS, LINUX_AND_WINDOWS
from mlflow_sysmetrics.delivery.stream import DROPPED_TAG
from mlflow_sysmetrics.facts import FACTS
from mlflow_sysmetrics.facts.probes import read_fact
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.collectors import COLLECTORS
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.window import Readings, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_sysmetrics.catalog import Metric, Tag
    from mlflow_sysmetrics.collectors.contract import Collector

MEASURES = {
    "percentage",
    "megabytes",
    "megabytes per second",
    "milliseconds",
    "watts",
    "celsius",
    "joules",
    "megahertz",
    "cores",
}
OF_COUNTERS = {Aggregate.RATE, Aggregate.TOTAL}
PLATFORMS = {EVERYWHERE, LINUX, LINUX_AND_MACOS, LINUX_AND_WINDOWS}
COUNTED = {"processes", "threads", "descriptors", "errors", "rows"}

MLFLOWS_OWN = {
    "cpu_utilization_percentage": "percentage",
    "system_memory_usage_megabytes": "megabytes",
    "system_memory_usage_percentage": "percentage",
    "disk_usage_percentage": "percentage",
    "disk_usage_megabytes": "megabytes",
    "disk_available_megabytes": "megabytes",
    "network_receive_megabytes": "megabytes",
    "network_transmit_megabytes": "megabytes",
    "gpu_0_memory_usage_megabytes": "megabytes",
    "gpu_0_memory_usage_percentage": "percentage",
    "gpu_0_utilization_percentage": "percentage",
    "gpu_0_power_usage_watts": "watts",
    "gpu_0_power_usage_percentage": "percentage",
}


# Names and units


def test_keys_are_unique() -> None:
    for keys in ([metric.key for metric in METRICS], [tag.key for tag in TAGS]):
        assert len(keys) == len(set(keys))


def test_mlflow_accepts_every_key() -> None:
    for metric in METRICS:
        key = PREFIX + metric.key.format(index=15, instance=6)
        _validate_metric_name(key)
        assert len(key) <= MAX_ENTITY_KEY_LENGTH, key
    for tag in TAGS:
        _validate_tag_name(tag.key.format(index=15))
        assert 0 < len(tag.example) <= MAX_TAG_LENGTH, tag.key


def test_a_key_is_its_subject_quantity_and_unit() -> None:
    for metric in METRICS:
        key = metric.key.format(index=0, instance=0)
        assert re.fullmatch(r"([a-z]+(_\d+)?/)?[a-z][a-z0-9_]*", key), key
        if metric.unit in COUNTED:
            assert re.search(r"\bnum_|\bload_average_|_kills$|_errors$|_rows$", key), key
        else:
            assert metric.unit in MEASURES, key
            assert key.endswith("_" + metric.unit.replace(" ", "_"))


def test_every_metric_and_tag_is_described() -> None:
    described: list[Metric | Tag] = [*METRICS, *TAGS]
    for each in described:
        assert each.meaning.endswith("."), each.key
        assert each.source, each.key
        assert each.absent, each.key
        assert each.platforms in PLATFORMS, each.key
        assert each.platforms == EVERYWHERE or each.absent != "never", each.key
    assert not [tag.key for tag in TAGS if "`" in tag.example]  # examples are set as code


def test_a_metric_is_scaled_and_aggregated_as_its_kind_allows() -> None:
    for metric in METRICS:
        assert metric.scale > 0, metric.key
        assert metric.per is None or metric.aggregate is Aggregate.RATE, metric.key
        if metric.aggregate not in OF_COUNTERS:  # a gauge has its reading's name and unit
            assert (metric.reading, metric.scale) == (metric.key, 1.0)


def test_mlflows_own_keys_are_ours_too() -> None:
    assert {key: metric_of(key).unit for key in MLFLOWS_OWN} == MLFLOWS_OWN


def test_the_tag_of_lost_samples_is_in_the_catalog() -> None:
    assert DROPPED_TAG in {tag.key for tag in TAGS}


# What collectors read


class Sampled(NamedTuple):
    """A collector, and its first two samples."""

    collector: Collector
    samples: list[dict[str, float]]


@pytest.fixture
def sampled(install_nvml: Callable[..., object]) -> Iterator[dict[str, Sampled]]:
    """By name, each collector that this machine has, with the two GPUs that are described here."""
    install_nvml(h100(0), h100(1))
    found = {}
    for name, opener in COLLECTORS:
        with contextlib.suppress(Unavailable):
            collector = opener(Host())
            found[name] = Sampled(collector, [collector.collect(), collector.collect()])
    yield found
    for each in found.values():
        each.collector.close()


def test_every_machine_has_the_main_collectors(sampled: dict[str, Sampled]) -> None:
    assert {"cpu", "memory", "disk", "network", "process_tree", "nvidia"} <= sampled.keys()
    assert all(sample for each in sampled.values() for sample in each.samples)


def test_readings_are_finite_numbers(sampled: dict[str, Sampled]) -> None:
    for value in _each_reading(sampled).values():
        assert isinstance(value, int | float)
        assert math.isfinite(value)


def test_no_two_collectors_have_a_reading_of_the_same_name(sampled: dict[str, Sampled]) -> None:
    assert len(_each_reading(sampled)) == sum(len(_names(each)) for each in sampled.values())


def test_every_reading_is_for_a_metric_of_the_catalog(sampled: dict[str, Sampled]) -> None:
    divisors = {metric.per for metric in METRICS}

    useless = {name for name in _each_reading(sampled) if not metrics_of(name)} - divisors

    assert not useless


def test_counters_do_not_fall(sampled: dict[str, Sampled]) -> None:
    counters = {metric.reading for metric in METRICS if metric.aggregate in OF_COUNTERS}

    for each in sampled.values():
        first, second = each.samples
        for name in counters & first.keys() & second.keys():
            assert first[name] <= second[name], name


def test_every_key_that_comes_out_is_in_the_catalog(sampled: dict[str, Sampled]) -> None:
    window = Window()
    for number in range(2):
        window.add([Readings(float(number), each.samples[number]) for each in sampled.values()])

    keys = window.close()

    assert "process/cpu_usage_percentage" in keys
    assert all(metric_of(key).key == key for key in keys)


def test_a_collector_may_be_closed_twice(sampled: dict[str, Sampled]) -> None:
    for each in sampled.values():
        each.collector.close()
        each.collector.close()


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
def test_a_collector_opens_or_is_unavailable(system: str) -> None:
    collectors = CollectorSet(Host(system=system))

    collectors.open()

    assert list(collectors.states) == [name for name, _ in COLLECTORS]
    unforeseen = {name: why for name, why in collectors.states.items() if "Error(" in (why or "")}
    assert unforeseen == {}
    collectors.close()


def test_the_samplers_own_reading_is_in_the_catalog() -> None:
    (readings,) = CollectorSet(Host(), lambda: ()).collect()

    assert all(metrics_of(name) for name in readings.values)


def test_what_the_catalog_calls_never_absent_is_read() -> None:
    collectors = CollectorSet(Host())
    read = {name for sample in collectors.collect() for name in sample.values}
    collectors.close()

    promised = {metric.reading for metric in METRICS if metric.absent == "never"}

    assert promised <= read


def test_tags_that_the_catalog_calls_never_absent_are_read() -> None:
    promised = {tag.key for tag in TAGS if tag.absent == "never"}
    read = {key for fact in FACTS for key, value in read_fact(fact, Host()).tags.items() if value}

    assert promised <= read


def _names(sampled: Sampled) -> set[str]:
    return {name for sample in sampled.samples for name in sample}


def _each_reading(sampled: dict[str, Sampled]) -> dict[str, float]:
    """All readings of all collectors, the last of each name."""
    return {
        name: value
        for each in sampled.values()
        for sample in each.samples
        for name, value in sample.items()
    }
