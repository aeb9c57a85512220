from __future__ import annotations

from mlflow_sysmetrics.accelerators.totals import totals_of

ONE = {
    "utilization_percentage": 90.0,
    "memory_usage_megabytes": 1000.0,
    "power_usage_watts": 300.0,
    "energy_joules": 5.0,
    "temperature_celsius": 60.0,
}


def test_what_adds_up_is_added_and_utilisation_averaged() -> None:
    assert totals_of([ONE, {**ONE, "utilization_percentage": 10.0}]) == {
        "gpu/memory_usage_megabytes": 2000.0,
        "gpu/power_usage_watts": 600.0,
        "gpu/energy_joules": 10.0,
        "gpu/utilization_percentage": 50.0,
    }


def test_there_is_no_sum_without_one_of_its_parts() -> None:
    without = {name: value for name, value in ONE.items() if name != "power_usage_watts"}

    assert totals_of([ONE, without]).keys() == {
        "gpu/memory_usage_megabytes",
        "gpu/energy_joules",
        "gpu/utilization_percentage",
    }


def test_no_gpu_has_no_totals() -> None:
    assert totals_of([]) == {}


def test_a_total_with_an_estimate_in_it_is_an_estimate() -> None:
    estimated = {"energy_estimated_joules": 7.0}

    assert totals_of([{"energy_joules": 5.0}, estimated]) == {"gpu/energy_estimated_joules": 12.0}
    assert totals_of([estimated, estimated]) == {"gpu/energy_estimated_joules": 14.0}


def test_there_is_no_estimate_of_a_total_without_one_of_its_parts() -> None:
    assert totals_of([{"energy_estimated_joules": 7.0}, {}]) == {}
