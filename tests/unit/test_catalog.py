from __future__ import annotations

import pytest

from mlflow_sysmetrics.catalog import Aggregate, metric_of, metrics_of


def test_a_gauge_feeds_the_metric_of_its_name() -> None:
    (metric,) = metrics_of("disk_usage_percentage")

    assert metric.key == metric.reading == "disk_usage_percentage"


def test_a_counter_feeds_metrics_of_other_names() -> None:
    (total,) = metrics_of("network_receive_bytes")
    (rate,) = metrics_of("network_external_receive_bytes")

    assert (total.key, total.aggregate) == ("network_receive_megabytes", Aggregate.TOTAL)
    assert (rate.key, rate.aggregate) == ("network/receive_megabytes_per_second", Aggregate.RATE)


@pytest.mark.parametrize("index", ["0", "7", "15"])
def test_a_devices_number_is_filled_in(index: str) -> None:
    name = f"gpu_{index}_power_usage_watts"

    (metric,) = metrics_of(name)

    assert metric.key == metric.reading == name
    assert metric == metric_of(name)


def test_the_number_of_a_mig_instance_is_filled_in() -> None:
    name = "gpu_3/mig_6_memory_usage_megabytes"

    (metric,) = metrics_of(name)

    assert metric.key == metric.reading == name
    assert metric == metric_of(name)


@pytest.mark.parametrize(
    "name", ["", "unheard_of", "gpu_power_usage_percentage", "gpu_x_power", "gpu_1"]
)
def test_a_reading_that_nobody_knows_feeds_nothing(name: str) -> None:
    assert metrics_of(name) == ()


def test_a_key_that_is_not_in_the_catalog_has_no_metric() -> None:
    with pytest.raises(KeyError, match="system/disk_usage_percentage"):
        metric_of("system/disk_usage_percentage")
