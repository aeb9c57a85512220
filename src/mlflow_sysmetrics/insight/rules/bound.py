"""What a training waits for: the CPUs, one core, I/O, its CPU quota."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.finding import Finding, NotJudged, Waste
from mlflow_sysmetrics.insight.rules.evidence import (
    TREE_CORES,
    TREE_CPU,
    check_long_enough,
    check_not_interactive,
    cpus_of,
    has_cpu_limit,
    logged,
    rate,
)
from mlflow_sysmetrics.insight.rules.gpu import gpu_use, gpus_in_words, utilization_key
from mlflow_sysmetrics.insight.thresholds import LIMITS

if TYPE_CHECKING:
    from mlflow_sysmetrics.insight.rules.gpu import GpuUse
    from mlflow_sysmetrics.insight.run import RunView

_ONE_CORE = 100.0

_CONTAINER_IO = "container/pressure_io_some_percentage"
_HOST_IO = "pressure/io_some_percentage"


def cpu_bound_input(run: RunView) -> Finding | None:
    """GPUs that wait while the tree is at the limit of its CPUs.

    Raises:
        NotJudged: There is no GPU in use, or the tree's CPU time is not known.
    """
    use = gpu_use(run)
    logged(run, TREE_CPU)
    if use.mean >= LIMITS.gpu_low:
        return None
    share = _share_while_gpus_wait(run, use, {TREE_CPU: LIMITS.cpu_bound})
    if share * 100 < LIMITS.bound_share:
        return None
    busy = logged(run, TREE_CPU).mean_since(use.since_s) or 0.0
    return Finding(
        id="cpu-bound-input",
        severity="warning" if use.is_certain else "info",
        title=f"{gpus_in_words(use.indices)} at {use.mean:.0f} % while the process tree uses up "
        f"its {cpus_of(run):g} CPUs",
        evidence={**use.evidence, TREE_CPU: round(busy, 1)},
        advice="Prepare the data once and store them, move the preparation to the GPU, or ask for "
        "more CPUs for each GPU.",
        share=share,
        waste=use.waste,
        start_s=use.since_s,
        end_s=run.ended_s,
    )


def single_core(run: RunView) -> Finding | None:
    """A tree that keeps one core busy where it has several.

    Raises:
        NotJudged: The tree's CPU time, or how many CPUs it has, is not known.
    """
    check_long_enough(run)
    check_not_interactive(run)
    cores, cpus = logged(run, TREE_CORES), cpus_of(run)
    if cpus < LIMITS.single_core_cpus:
        raise NotJudged(f"it takes {LIMITS.single_core_cpus:g} CPUs")
    use = _gpu_use_if_any(run)
    if use is not None and use.mean >= LIMITS.gpu_low:
        return None
    low, high = (_ONE_CORE + sign * LIMITS.single_core_tolerance for sign in (-1, 1))
    since_s = use.since_s if use is not None else run.warmed_up_s
    share = run.share_where({TREE_CORES: lambda value: low <= value <= high}, since_s) or 0.0
    busy = cores.mean_since(since_s) or 0.0
    if share * 100 < LIMITS.single_core_share or not low <= busy <= high:
        return None
    gpus_wait = use is not None and use.is_certain
    return Finding(
        id="single-core",
        severity="warning" if gpus_wait or has_cpu_limit(run) else "info",
        title=f"One core busy of {cpus:g}"
        + (f", while {gpus_in_words(use.indices)} wait" if use is not None else ""),
        evidence={TREE_CORES: round(busy, 1), **(use.evidence if use is not None else {})},
        advice="Let worker processes prepare the data (num_workers of a data loader)."
        if use is not None
        else "Let it use all of its CPUs (n_jobs, worker processes, threads), or ask for one.",
        share=share,
        waste=Waste(core_hours=(cpus - 1) * run.duration_s / 3600) if has_cpu_limit(run) else None,
        start_s=since_s,
        end_s=run.ended_s,
    )


def io_bound(run: RunView) -> Finding | None:
    """A training that waits for its disk, or its file share.

    Raises:
        NotJudged: The kernel does not report pressure, or what the tree does is not known.
    """
    check_long_enough(run)
    key = _CONTAINER_IO if run.get(_CONTAINER_IO) is not None else _HOST_IO
    pressure = logged(run, key)
    share, since_s, use = _io_share(run, key)
    if share * 100 < LIMITS.bound_share:
        return None
    transfer = rate(run.get("process/io_read_megabytes")) + rate(
        run.get("process/io_write_megabytes")
    )
    if key == _HOST_IO and transfer < LIMITS.io_transfer:
        return None  # somebody else's
    stalled = pressure.mean_since(since_s) or 0.0
    return Finding(
        id="io-bound",
        severity="info" if use is not None and not use.is_certain else "warning",
        title=f"Waiting for I/O for {stalled:.0f} % of the time"
        + (f", with {gpus_in_words(use.indices)} at {use.mean:.0f} %" if use is not None else ""),
        evidence={
            key: round(stalled, 1),
            "process/io_read_megabytes": logged(run, "process/io_read_megabytes").total or 0.0,
            **(use.evidence if use is not None else {}),
        }
        if run.get("process/io_read_megabytes") is not None
        else {key: round(stalled, 1), **(use.evidence if use is not None else {})},
        advice="Copy the data to a local disk first, pack small files into large ones, or read "
        "ahead with more workers.",
        share=share,
        waste=use.waste if use is not None else None,
        start_s=since_s,
        end_s=run.ended_s,
    )


def _io_share(run: RunView, key: str) -> tuple[float, float, GpuUse | None]:
    """Share of the time, since when, and what the GPUs did meanwhile."""
    use = _gpu_use_if_any(run)
    if use is not None:
        if use.mean >= LIMITS.gpu_low:
            return 0.0, use.since_s, use
        return _share_while_gpus_wait(run, use, {key: LIMITS.io_pressure}), use.since_s, use
    logged(run, TREE_CPU)
    share = run.share_where(
        {
            key: lambda value: value >= LIMITS.io_pressure,
            TREE_CPU: lambda value: value < LIMITS.io_cpu,
            TREE_CORES: lambda value: value < _ONE_CORE * 2 * LIMITS.io_cpu / 100,
        },
        run.warmed_up_s,
    )
    return share or 0.0, run.warmed_up_s, None


def cpu_throttled(run: RunView) -> Finding | None:
    """A CPU quota that is used up again and again.

    Raises:
        NotJudged: There is no quota.
    """
    check_long_enough(run)
    key, cores_key = "container/cpu_throttled_percentage", "container/cpu_throttled_cores"
    throttled, kept_back = logged(run, key), logged(run, cores_key)
    least = cpus_of(run) * LIMITS.throttled_cores / 100
    share = run.share_where(
        {key: lambda value: value >= LIMITS.throttled, cores_key: lambda value: value >= least},
        run.warmed_up_s,
    )
    if share is None or share * 100 < LIMITS.throttled_share:
        return None
    minutes = share * (run.ended_s - run.warmed_up_s) / 60
    if minutes < LIMITS.throttled_minutes and share < 1 / 2:
        return None
    busy = run.get(TREE_CPU)
    return Finding(
        id="cpu-throttled",
        severity="warning",
        title=f"CPU quota used up in {throttled.maximum:.0f} % of the periods, "
        f"for {minutes:.0f} minutes",
        evidence={
            key: round(throttled.mean, 1),
            cores_key: round(kept_back.mean, 2),
            **({TREE_CPU: round(busy.mean, 1)} if busy is not None else {}),
        },
        advice="Run no more threads and workers than the quota has CPUs (OMP_NUM_THREADS, "
        "num_workers), or ask for more CPUs.",
        share=share,
    )


def cpu_overprovisioned(run: RunView) -> Finding | None:
    """Far more CPUs than the run used.

    Raises:
        NotJudged: Nobody set how many it has.
    """
    check_long_enough(run)
    check_not_interactive(run)
    if not has_cpu_limit(run):
        raise NotJudged("no limit of the CPUs is set: nothing was asked for")
    used, cpus = logged(run, TREE_CPU), cpus_of(run)
    if cpus < LIMITS.overprovisioned_cpus or used.p95 >= LIMITS.overprovisioned_cpu:
        return None
    unused = cpus * (1 - used.mean / 100)
    return Finding(
        id="cpu-overprovisioned",
        severity="info",
        title=f"{used.p95 * cpus / 100:.1f} of {cpus:g} CPUs in use for 95 % of the time",
        evidence={TREE_CPU: round(used.p95, 1)},
        advice="Ask for fewer CPUs.",
        waste=Waste(core_hours=unused * run.duration_s / 3600),
    )


def _gpu_use_if_any(run: RunView) -> GpuUse | None:
    try:
        return gpu_use(run)
    except NotJudged:
        return None


def _share_while_gpus_wait(run: RunView, use: GpuUse, at_least: dict[str, float]) -> float:
    """Share of the time in which the GPUs waited and other metrics were at a level or above."""
    limits = {key: (lambda value, limit=limit: value >= limit) for key, limit in at_least.items()}
    shares = [
        run.share_where(
            {utilization_key(index): lambda value: value < LIMITS.gpu_low, **limits}, use.since_s
        )
        or 0.0
        for index in use.indices
    ]
    return mean(shares)
