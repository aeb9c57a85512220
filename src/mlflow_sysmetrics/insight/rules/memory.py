"""Memory that leaks, runs out, or was asked for in vain."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.finding import Finding, NotJudged
from mlflow_sysmetrics.insight.rules.evidence import (
    check_long_enough,
    check_not_interactive,
    container_limit_mb,
    line_through,
    logged,
    memory_limit_mb,
    recent_growth,
    steady_growth,
    tree_memory,
)
from mlflow_sysmetrics.insight.thresholds import LIMITS

if TYPE_CHECKING:
    from mlflow_sysmetrics.insight.rules.evidence import Growth
    from mlflow_sysmetrics.insight.run import RunView
    from mlflow_sysmetrics.insight.statistics import Moment, Statistic

_SHARE_OF_READ = (0.5, 20.0)
"""Growth, by what was read meanwhile, that a cache may have: compressed data become more."""

_CONTAINER = "container/memory_usage_megabytes"
_CONTAINER_SHARE = "container/memory_usage_percentage"
_HOST = "system_memory_usage_megabytes"
_HOST_SHARE = "system_memory_usage_percentage"


def memory_leak(run: RunView) -> Finding | None:
    """Memory of the tree that grows as steadily as a line.

    Raises:
        NotJudged: Its memory is not known well enough, or a cache may be filling.
    """
    check_long_enough(run)
    memory = tree_memory(run)
    growth = steady_growth(run, memory)
    if growth is None or not _is_much(run, growth):
        return None
    _check_is_no_cache(run, growth)
    if not _is_resident(run, growth):
        return None
    an_hour = growth.per_s * 3600
    return Finding(
        id="memory-leak",
        severity="warning",
        title=f"Memory grew by {growth.amount / 1000:.1f} GB, steadily: "
        f"{an_hour / 1000:.2g} GB an hour",
        evidence={memory.key: round(memory.maximum, 1)},
        advice="Look for what is kept at each step: losses with their graphs (use .item()), lists "
        "of outputs, caches without a limit, workers that are not closed.",
        share=(growth.end_s - growth.start_s) / run.duration_s,
        start_s=growth.start_s,
        end_s=growth.end_s,
    )


def oom_forecast(run: RunView) -> Finding | None:
    """Memory that reaches its limit before long, if it goes on as it does.

    Raises:
        NotJudged: Its memory, or the limit, is not known, or a cache may be filling.
    """
    check_long_enough(run)
    memory = tree_memory(run)
    growth = recent_growth(run, memory)
    if growth is None or steady_growth(run, memory) is None:
        return None
    in_use_key = _CONTAINER if run.get(_CONTAINER) is not None else _HOST
    in_use, limit_mb = logged(run, in_use_key), memory_limit_mb(run)
    if limit_mb is None:
        raise NotJudged("the limit of the memory is not known")
    hours = (limit_mb - in_use.last.value) / growth.per_s / 3600
    within_h = min(LIMITS.forecast_run_times * run.duration_s / 3600, LIMITS.forecast_hours)
    if hours > within_h:
        return None
    _check_is_no_cache(run, growth)
    if not _is_resident(run, growth):
        return None
    return Finding(
        id="oom-forecast",
        severity="warning",
        title=f"Memory grows by {growth.per_s * 3.6:.2g} GB an hour: full in {hours:.1f} h",
        evidence={
            memory.key: round(memory.last.value, 1),
            in_use_key: round(in_use.last.value, 1),
        },
        advice="Save a checkpoint soon; look for what is kept at each step, or ask for more "
        "memory.",
        share=(growth.end_s - growth.start_s) / run.duration_s,
        start_s=growth.start_s,
        end_s=growth.end_s,
    )


def memory_near_limit(run: RunView) -> Finding | None:
    """A peak that left little memory.

    Raises:
        NotJudged: The memory in use is not known.
    """
    check_long_enough(run)
    has_limit = run.get(_CONTAINER_SHARE) is not None
    key = _CONTAINER_SHARE if has_limit else _HOST_SHARE
    used, limit_mb = logged(run, key), memory_limit_mb(run)
    own = tree_memory(run)
    if limit_mb is None:
        raise NotJudged("the limit of the memory is not known")
    own_share = own.maximum / limit_mb * 100
    if used.maximum < LIMITS.memory_near_limit or own_share < LIMITS.memory_near_limit_own:
        return None
    return Finding(
        id="memory-near-limit",
        severity="warning",
        title=f"Memory in use reached {used.maximum:.0f} % of "
        f"{'the limit' if has_limit else 'what the host has'}",
        evidence={key: round(used.maximum, 1), own.key: round(own.maximum, 1)},
        advice="Ask for more memory, or use fewer workers, smaller batches or a memory-mapped "
        "dataset: at the limit the kernel kills a process.",
    )


def oom_killed(run: RunView) -> Finding | None:
    """A process that the kernel killed for want of memory.

    Raises:
        NotJudged: No limit, so nobody counts.
    """
    key = "container/oom_kills"
    kills = logged(run, key).total
    if not kills:
        return None
    return Finding(
        id="oom-killed",
        severity="critical",
        title=f"{kills:.0f} process{'es' * (kills > 1)} killed because memory ran out",
        evidence={key: kills},
        advice="Ask for more memory, or use fewer workers or smaller batches; check that no data "
        "were lost with a worker.",
    )


def swap_used(run: RunView) -> Finding | None:
    """Memory of the tree that goes to swap and is missed there.

    Raises:
        NotJudged: Its memory in swap, or the pressure, is not known.
    """
    check_long_enough(run)
    swap = logged(run, "process/memory_swap_megabytes")
    key = "container/pressure_memory_some_percentage"
    pressure = run.get(key) or logged(run, key := "pressure/memory_some_percentage")
    grown_mb = swap.maximum - swap.first.value
    if grown_mb < LIMITS.swap_growth * 1000 or pressure.mean < LIMITS.swap_pressure:
        return None
    return Finding(
        id="swap-used",
        severity="warning",
        title=f"{grown_mb / 1000:.1f} GB of its memory went to swap",
        evidence={swap.key: round(swap.maximum, 1), key: round(pressure.mean, 1)},
        advice="Use less memory (fewer workers, smaller batches), or a machine with more: what "
        "waits for swap is slowed down a thousandfold.",
        share=pressure.mean / 100,
    )


def memory_overprovisioned(run: RunView) -> Finding | None:
    """Far more memory than the run used.

    Raises:
        NotJudged: There is no limit, or its memory is not known.
    """
    check_long_enough(run)
    check_not_interactive(run)
    limit_mb = container_limit_mb(run)
    if limit_mb is None:
        raise NotJudged("no limit of the memory is set: nothing was asked for")
    if limit_mb < LIMITS.overprovisioned_memory * 1000:
        return None
    memory, container = tree_memory(run), logged(run, _CONTAINER)
    # Page cache in active use counts there: with less memory, files are read again.
    enough_mb = max(memory.maximum, container.maximum) * LIMITS.headroom
    if enough_mb >= limit_mb / 2:
        return None
    return Finding(
        id="memory-overprovisioned",
        severity="info",
        title=f"{memory.maximum / 1000:.1f} of {limit_mb / 1000:.0f} GB of memory in use at most",
        evidence={memory.key: round(memory.maximum, 1)},
        advice=f"Ask for {max(1, -(-enough_mb // 1000)):.0f} GB.",
    )


def descriptors_leak(run: RunView) -> Finding | None:
    """Files that are opened and not closed.

    Raises:
        NotJudged: Descriptors are not counted.
    """
    check_long_enough(run)
    key = "process/fds_usage_percentage"
    used = logged(run, key)
    if used.maximum < LIMITS.descriptors or steady_growth(run, used) is None:
        return None
    return Finding(
        id="fd-leak",
        severity="warning",
        title=f"A process has opened {used.maximum:.0f} % of the files that it may, and opens more",
        evidence={key: round(used.maximum, 1)},
        advice="Close files, sockets and loaders when they are done with; `ulimit -n` gives more.",
    )


def _is_much(run: RunView, growth: Growth) -> bool:
    limit_mb = memory_limit_mb(run)
    wanted_mb = LIMITS.leak_growth * 1000
    if limit_mb is not None:
        wanted_mb = min(wanted_mb, limit_mb * LIMITS.leak_share_of_limit / 100)
    grown_mb = growth.per_s * run.duration_s * 2 / 3  # sparse values may begin later, end earlier
    return grown_mb >= max(wanted_mb, growth.start * LIMITS.leak_share_of_limit / 100)


def _check_is_no_cache(run: RunView, growth: Growth) -> None:
    """See whether the growth may be data that are read and kept.

    Raises:
        NotJudged: It may be.
    """
    read = run.get("process/io_read_megabytes")
    if read is None:
        return
    points = _meanwhile(read, growth)
    read_mb = points[-1].value - points[0].value if points else 0.0
    if read_mb <= 0:
        return
    low, high = _SHARE_OF_READ
    if low <= growth.amount / read_mb <= high:
        raise NotJudged("memory grows as data are read: a cache that fills looks the same")


def _is_resident(run: RunView, growth: Growth) -> bool:
    """Whether the memory in use shows the growth: pages of mapped files do not count there."""
    in_use = run.get(_CONTAINER) or run.get(_HOST)
    points = _meanwhile(in_use, growth) if in_use is not None else []
    if not points:
        return True
    slope, height, _ = line_through(points)
    middle_s = mean(each.time_s for each in points)
    off = [abs(each.value - height - slope * (each.time_s - middle_s)) for each in points]
    is_hidden = mean(off) >= growth.amount * LIMITS.leak_hidden / 100
    return is_hidden or slope >= growth.per_s * LIMITS.leak_resident / 100


def _meanwhile(statistic: Statistic, growth: Growth) -> list[Moment]:
    return [each for each in statistic.points() if growth.start_s <= each.time_s <= growth.end_s]
