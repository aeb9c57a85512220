"""A disk that is full, or soon will be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mlflow_sysmetrics.insight.finding import Finding, NotJudged
from mlflow_sysmetrics.insight.rules.evidence import rate, recent_growth
from mlflow_sysmetrics.insight.thresholds import LIMITS

if TYPE_CHECKING:
    from mlflow_sysmetrics.insight.run import RunView
    from mlflow_sysmetrics.insight.statistics import Statistic

_FILE_SYSTEMS = (
    ("disk/working_directory_", "The working directory's disk"),
    ("disk_", "The root disk"),
)


class _Disk(NamedTuple):
    """A file system: what is in use in MB and percent, and what is free in MB."""

    name: str
    used: Statistic
    free: Statistic
    size_mb: float

    @property
    def free_percentage(self) -> float:
        return self.free.last.value / self.size_mb * 100


def disk_nearly_full(run: RunView) -> Finding | None:
    """A disk that is full, that the run has all but filled, or that will be full before long.

    Raises:
        NotJudged: No disk is watched.
    """
    disks = [disk for prefix, name in _FILE_SYSTEMS if (disk := _disk(run, prefix, name))]
    if not disks:
        raise NotJudged("space on disks is not known")
    if (full := next((disk for disk in disks if _is_full(disk)), None)) is not None:
        return _finding(full, f"{full.name} is full: {_gb(full.free.last.value)} are free")
    disk = disks[0]  # where the run works
    if _is_low(disk):
        return _finding(
            disk,
            f"{disk.name} has {_gb(disk.free.last.value)} left, "
            f"{disk.free_percentage:.1f} %, and fills up",
        )
    hours = _hours_left(run, disk)
    return None if hours is None else _finding(disk, f"{disk.name} will be full in {hours:.1f} h")


def _disk(run: RunView, prefix: str, name: str) -> _Disk | None:
    used, free = run.get(f"{prefix}usage_megabytes"), run.get(f"{prefix}available_megabytes")
    if used is None or free is None or used.last.value + free.last.value <= 0:
        return None
    return _Disk(name, used, free, used.last.value + free.last.value)


def _is_full(disk: _Disk) -> bool:
    free_mb = disk.free.last.value
    return free_mb < LIMITS.disk_full_free or disk.free_percentage < LIMITS.disk_full


def _is_low(disk: _Disk) -> bool:
    filled_mb = disk.used.last.value - disk.used.first.value
    return (
        disk.free_percentage < LIMITS.disk_low
        and disk.free.last.value < LIMITS.disk_low_free * 1000
        and filled_mb >= disk.size_mb * LIMITS.disk_filled / 100
    )


def _hours_left(run: RunView, disk: _Disk) -> float | None:
    """Until it is full, where it fills steadily and has not much room; else None."""
    growth = recent_growth(run, disk.used)
    if growth is None:
        return None
    hours = disk.free.last.value / growth.per_s / 3600
    room = LIMITS.disk_trend_free_copying if _copies(run) else LIMITS.disk_trend_free
    return hours if hours <= LIMITS.forecast_hours and disk.free_percentage < room else None


def _copies(run: RunView) -> bool:
    """Whether the tree reads or receives about what it writes: that has an end."""
    written = rate(run.get("process/io_write_megabytes"))
    got = rate(run.get("process/io_read_megabytes")) + rate(run.get("network_receive_megabytes"))
    return got >= written / 2


def _finding(disk: _Disk, title: str) -> Finding:
    return Finding(
        id="disk-nearly-full",
        severity="warning",
        title=title,
        evidence={disk.free.key: round(disk.free.last.value, 1)},
        advice="Delete old checkpoints, keep fewer of them, or write to another disk, before a "
        "checkpoint is lost.",
        end_s=disk.free.last.time_s,
    )


def _gb(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB"
