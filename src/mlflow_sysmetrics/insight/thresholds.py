"""The thresholds of all rules, in one table; the documentation's is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Row(NamedTuple):
    """A threshold, for the documentation.

    Attributes:
        name: In this module.
        value: In its unit.
        unit: Empty for numbers of something.
        rules: Ids of the rules, or a word for all of a kind.
        meaning: What it is compared with.
    """

    name: str
    value: float
    unit: str
    rules: str
    meaning: str


def _threshold(value: float, unit: str, rules: str, meaning: str) -> float:
    made: float = field(default=value, metadata={"unit": unit, "rules": rules, "meaning": meaning})
    return made


@dataclass(frozen=True)
class Thresholds:
    """Values that the rules compare with; `rows` says what each of them is for."""

    min_samples: float = _threshold(
        20, "samples", "all but events", "Fewer are not judged by their mean or trend."
    )
    min_duration: float = _threshold(
        5, "minutes", "all but events", "Shorter runs are not judged by their mean or trend."
    )
    gpu_process_memory: float = _threshold(
        500,
        "MB",
        "gpu-…, rank-imbalance",
        "Memory of the tree on a GPU from which on the run uses it; memory of others from which on "
        "it is shared with them, and not judged.",
    )
    gpu_used: float = _threshold(
        1, "%", "gpu-…, rank-imbalance", "Utilisation from which on a GPU is in use at a time."
    )
    gpu_unused_beside_used: float = _threshold(
        10, "minutes", "gpu-unused", "Since another of the run's GPUs was first used."
    )
    gpu_unused_allocated: float = _threshold(
        30, "minutes", "gpu-unused", "Since the run began, where none of the GPUs is used."
    )
    gpu_unused_preparing: float = _threshold(
        60, "minutes", "gpu-unused", "The same, while the run goes on and prepares its data."
    )
    preparing_cores: float = _threshold(
        0.5, "cores", "gpu-unused", "CPU time of the tree from which on it prepares its data."
    )
    preparing_transfer: float = _threshold(
        5, "MB/s", "gpu-unused", "Received or read from disks, from which on it does so, too."
    )
    gpu_idle: float = _threshold(15, "%", "gpu-idle", "Mean utilisation, since the first use.")
    gpu_low_warning: float = _threshold(30, "%", "gpu-low", "The same, for a warning.")
    gpu_low: float = _threshold(
        50,
        "%",
        "gpu-low, cpu-bound-input, single-core, io-bound",
        "The same, for an information; and the level below which the GPU waits.",
    )
    bound_share: float = _threshold(
        33,
        "% of the time",
        "cpu-bound-input, io-bound",
        "For which the GPU waited while the CPUs, or I/O, were at their limit.",
    )
    cpu_bound: float = _threshold(
        85, "%", "cpu-bound-input", "CPU time of the tree, of the CPUs that it may use."
    )
    single_core_tolerance: float = _threshold(
        15, "%", "single-core", "How far from one core the tree's CPU time may be."
    )
    single_core_share: float = _threshold(
        70, "% of the time", "single-core", "For which it was that near to one core."
    )
    single_core_cpus: float = _threshold(
        4, "CPUs", "single-core", "That the tree may use, at least."
    )
    io_pressure: float = _threshold(
        20, "% of the time", "io-bound", "In which some task waited for I/O (PSI)."
    )
    io_transfer: float = _threshold(
        1, "MB/s", "io-bound", "Read and written by the tree, where the pressure is the host's."
    )
    io_cpu: float = _threshold(
        25, "%", "io-bound", "Of its CPUs, and of one core, below which a tree without GPUs waits."
    )
    throttled: float = _threshold(
        40, "% of the periods", "cpu-throttled", "In which the CPU quota was used up."
    )
    throttled_minutes: float = _threshold(
        15, "minutes", "cpu-throttled", "For which it was so, and the next; or half of the run."
    )
    throttled_share: float = _threshold(
        25, "% of the time", "cpu-throttled", "For which it was so."
    )
    throttled_cores: float = _threshold(
        20,
        "% of the quota",
        "cpu-throttled",
        "CPU cores that were kept back meanwhile: a tree that needs what it has loses less.",
    )
    leak_growth: float = _threshold(
        1, "GB", "memory-leak", "Growth over the last two thirds of the run, or"
    )
    leak_share_of_limit: float = _threshold(
        10, "%", "memory-leak", "of the limit; and by as much of what it was."
    )
    leak_fit: float = _threshold(
        0.8, "", "memory-leak, oom-forecast, fd-leak", "R² of the straight line through it."
    )
    leak_steadiness: float = _threshold(
        0.75,
        "",
        "memory-leak, oom-forecast, fd-leak",
        "Slope in the second half of that time, by that in the first: a cache flattens.",
    )
    leak_resident: float = _threshold(
        50,
        "%",
        "memory-leak, oom-forecast",
        "Of the growth that the memory in use on the host, or in the container, has to show, "
        "unless others' hides it: pages of mapped files do not.",
    )
    leak_hidden: float = _threshold(
        25,
        "%",
        "memory-leak, oom-forecast",
        "Of the growth by which that memory may differ from a straight line, to tell.",
    )
    forecast_trend: float = _threshold(
        30, "minutes", "oom-forecast, disk-nearly-full", "Of growth, in 4 of the last 5 windows."
    )
    forecast_run_times: float = _threshold(
        2, "times the run", "oom-forecast", "Until the limit is reached, at most."
    )
    forecast_hours: float = _threshold(
        24, "hours", "oom-forecast, disk-nearly-full", "Until the limit is reached, at most."
    )
    memory_near_limit: float = _threshold(
        90, "%", "memory-near-limit", "Of the limit, or of the host's memory, in use at the peak."
    )
    memory_near_limit_own: float = _threshold(
        70, "%", "memory-near-limit", "Of it in use by the tree itself: page cache is not."
    )
    swap_growth: float = _threshold(1, "GB", "swap-used", "Of the tree swapped out in the run.")
    swap_pressure: float = _threshold(
        1, "% of the time", "swap-used", "In which some task waited for memory (PSI)."
    )
    disk_full: float = _threshold(0.5, "%", "disk-nearly-full", "Free: the disk is full, or")
    disk_full_free: float = _threshold(100, "MB", "disk-nearly-full", "free.")
    disk_low: float = _threshold(
        5, "%", "disk-nearly-full", "Free, and less than the next, while the run fills it."
    )
    disk_low_free: float = _threshold(20, "GB", "disk-nearly-full", "Free.")
    disk_filled: float = _threshold(
        1, "%", "disk-nearly-full", "Of the disk that was filled during the run, for that."
    )
    disk_trend_free: float = _threshold(
        40, "%", "disk-nearly-full", "Free, from which on a trend counts; while it unpacks, 10 %."
    )
    disk_trend_free_copying: float = _threshold(
        10, "%", "disk-nearly-full", "The same while the tree reads about what it writes."
    )
    thermal: float = _threshold(
        5, "% of the time", "gpu-thermal", "In which heat held the clocks of a GPU down."
    )
    overprovisioned_cpus: float = _threshold(
        8, "CPUs", "cpu-overprovisioned", "Of the limit, at least."
    )
    overprovisioned_cpu: float = _threshold(
        30, "%", "cpu-overprovisioned", "Of the limit in use, for 95 % of the time."
    )
    overprovisioned_memory: float = _threshold(
        8, "GB", "memory-overprovisioned", "Of the limit, at least."
    )
    headroom: float = _threshold(
        1.2,
        "times the peak",
        "memory-overprovisioned",
        "That would do, and is under half the limit.",
    )
    descriptors: float = _threshold(
        70, "%", "fd-leak", "Of the descriptors that one process may have, and rising."
    )
    imbalance: float = _threshold(
        50, "%", "rank-imbalance", "GPU utilisation of a node, by the median of the others."
    )


LIMITS = Thresholds()


def rows() -> Iterator[Row]:
    """All thresholds, for the documentation."""
    for each in fields(Thresholds):
        meta = each.metadata
        yield Row(
            each.name, getattr(LIMITS, each.name), meta["unit"], meta["rules"], meta["meaning"]
        )
