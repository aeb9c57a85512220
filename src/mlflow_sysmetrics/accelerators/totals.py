"""The readings of a run's GPUs under the names of the catalog, and their totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog import gpu_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COUNTED = "energy_joules"
_ESTIMATED = "energy_estimated_joules"
_SUMMED = ("memory_usage_megabytes", "power_usage_watts", _COUNTED, _ESTIMATED)
_AVERAGED = ("utilization_percentage",)


def named_readings(by_index: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Readings by their full names.

    Args:
        by_index: The readings of each GPU, by its number and then by name after `gpu_<index>`.
    """
    return {
        gpu_name(index, name): value
        for index, readings in by_index.items()
        for name, value in readings.items()
    }


def totals_of(gpus: Sequence[dict[str, float]]) -> dict[str, float]:
    """Sums and means over GPUs.

    Args:
        gpus: The readings of each GPU of the run, by name after `gpu_<index>`.

    Returns:
        Readings by name. A sum without one of its parts would be too small: there is none while
        one GPU does not report it. Where one estimates its energy, the total is an estimate.
    """
    if any(_ESTIMATED in readings for readings in gpus):
        gpus = [_with_estimate(readings) for readings in gpus]
    totals = {}
    for reading in _SUMMED + _AVERAGED:
        values = [readings[reading] for readings in gpus if reading in readings]
        if values and len(values) == len(gpus):
            total = sum(values)
            totals[f"gpu/{reading}"] = total / len(values) if reading in _AVERAGED else total
    return totals


def _with_estimate(readings: dict[str, float]) -> dict[str, float]:
    """The energy that a GPU has counted, among estimates of others."""
    return {_ESTIMATED: readings[_COUNTED], **readings} if _COUNTED in readings else readings
