"""GPUs that wait, and GPUs in trouble."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.finding import Finding, NotJudged, Waste
from mlflow_sysmetrics.insight.rules.evidence import (
    TREE_CORES,
    check_long_enough,
    check_not_interactive,
    rate,
)
from mlflow_sysmetrics.insight.run import Known, NodeGpus
from mlflow_sysmetrics.insight.thresholds import LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_sysmetrics.insight.run import RunView
    from mlflow_sysmetrics.insight.statistics import Statistic


@dataclass(frozen=True)
class GpuUse:
    """How much the run uses of the GPUs that it does use.

    Attributes:
        indices: Which they are.
        mean: Their utilisation since the first use, in percent.
        since_s: When that was, or the end of the warm-up, if later; seconds since the epoch.
        hours: For how long.
        is_certain: Whether they are the run's for certain.
    """

    indices: tuple[int, ...]
    mean: float
    since_s: float
    hours: float
    is_certain: bool

    @property
    def evidence(self) -> dict[str, float]:
        """Their utilisation, under the key of one, or of all."""
        key = (
            utilization_key(self.indices[0])
            if len(self.indices) == 1
            else "gpu/utilization_percentage"
        )
        return {key: round(self.mean, 1)}

    @property
    def waste(self) -> Waste:
        """The hours in which they were not in use."""
        idle_share = 1 - self.mean / 100
        return Waste(len(self.indices) * self.hours * idle_share, gpus=self.indices)


def gpu_use(run: RunView) -> GpuUse:
    """How much the run uses its GPUs, once it uses them.

    Raises:
        NotJudged: It has none, uses none, shares them, or they report no utilisation.
    """
    check_long_enough(run)
    used = used_gpus(run)
    since_s = max(run.warmed_up_s, _first_use_s(used))
    means = [each for one in used.values() if (each := one.mean_since(since_s)) is not None]
    hours = (run.ended_s - since_s) / 3600
    if len(means) < len(used) or hours * 60 < LIMITS.min_duration:
        raise NotJudged(f"GPUs were in use for less than {LIMITS.min_duration:g} minutes")
    return GpuUse(tuple(used), mean(means), since_s, hours, run.gpus.are_known)


def used_gpus(run: RunView) -> dict[int, Statistic]:
    """Utilisation of each GPU that the run uses, and does not share.

    Raises:
        NotJudged: There is none.
    """
    if not run.gpus.indices:
        raise NotJudged("the run has no GPU that reports metrics")
    of_run = {index: run.get(utilization_key(index)) for index in run.gpus.indices}
    reporting = {index: each for index, each in of_run.items() if each is not None}
    if not reporting:
        raise NotJudged("the run's GPUs report no utilisation, as in MIG mode")
    alone = {index: each for index, each in reporting.items() if not _is_shared(run, index)}
    if not alone:
        raise NotJudged("the run shares its GPUs with others")
    used = {index: each for index, each in alone.items() if _is_used(run, index, each)}
    if not used:
        raise NotJudged("the run uses no GPU")
    return used


def utilization_key(index: int) -> str:
    """Key of a GPU's utilisation."""
    return f"gpu_{index}_utilization_percentage"


def gpus_in_words(indices: Sequence[int]) -> str:
    """`GPU 0`, `GPUs 1, 3`, or `8 GPUs`."""
    if len(indices) > _NAMED_GPUS:
        return f"{len(indices)} GPUs"
    return f"GPU{'s' * (len(indices) > 1)} {', '.join(map(str, indices))}"


_NAMED_GPUS = 4


def _own_memory_mb(run: RunView, index: int) -> float | None:
    own = run.get(f"gpu_{index}/process_memory_megabytes")
    return None if own is None else own.maximum


def _is_shared(run: RunView, index: int) -> bool:
    """Whether others hold memory of it, too."""
    own, used = _own_memory_mb(run, index), run.get(f"gpu_{index}_memory_usage_megabytes")
    if own is None or used is None:
        return False
    return used.maximum - own >= LIMITS.gpu_process_memory


def _is_used(run: RunView, index: int, utilization: Statistic) -> bool:
    """By the tree, where its memory is known; else by anybody."""
    own = _own_memory_mb(run, index)
    if own is not None:
        return own >= LIMITS.gpu_process_memory
    return _is_in_use(utilization)


def _is_in_use(utilization: Statistic) -> bool:
    return any(each is not None and each >= LIMITS.gpu_used for each in utilization.buckets)


def _first_use_s(used: dict[int, Statistic]) -> float:
    """When one of them was first in use for all of a bucket; 0 if none ever was."""
    found = []
    for each in used.values():
        for number, (start_s, value) in enumerate(
            zip(each.bucket_starts_s(), each.buckets, strict=True)
        ):
            if value is not None and value >= LIMITS.gpu_used:
                # That bucket may have begun without; the next one is in use from its start.
                found.append(start_s + each.bucket_s if number else start_s)
                break
    return min(found, default=0.0)


def gpu_idle(run: RunView) -> Finding | None:
    """A GPU that the run uses, and hardly uses.

    Raises:
        NotJudged: It has none, or they cannot be judged.
    """
    check_not_interactive(run)
    use = gpu_use(run)
    if use.mean >= LIMITS.gpu_idle:
        return None
    return Finding(
        id="gpu-idle",
        severity="critical" if use.is_certain else "info",
        title=f"{gpus_in_words(use.indices)} idle: in use for {use.mean:.0f} % of the time",
        evidence=use.evidence,
        advice="Look for what the training waits for (input, checkpoints, other ranks, a hang), "
        "or run it without a GPU.",
        share=1 - use.mean / 100,
        waste=use.waste,
        start_s=use.since_s,
        end_s=run.ended_s,
    )


def gpu_low(run: RunView) -> Finding | None:
    """A GPU that waits for more than half of the time.

    Raises:
        NotJudged: It has none, or they cannot be judged.
    """
    check_not_interactive(run)
    use = gpu_use(run)
    if not LIMITS.gpu_idle <= use.mean < LIMITS.gpu_low:
        return None
    return Finding(
        id="gpu-low",
        severity="warning" if use.is_certain and use.mean < LIMITS.gpu_low_warning else "info",
        title=f"{gpus_in_words(use.indices)} in use for {use.mean:.0f} % of the time",
        evidence=use.evidence,
        advice="Use larger batches, prepare the data ahead of the steps, or take a smaller GPU.",
        share=1 - use.mean / 100,
        waste=use.waste,
        start_s=use.since_s,
        end_s=run.ended_s,
    )


def gpu_unused(run: RunView) -> Finding | None:
    """A GPU that was given to the run, and that it does not use.

    Raises:
        NotJudged: None was given, as far as is known, or it is too early to say.
    """
    check_not_interactive(run)
    if run.gpus.known is not Known.GIVEN:
        raise NotJudged("it is not known that GPUs were given to the run")
    of_run = {index: run.get(utilization_key(index)) for index in run.gpus.indices}
    reporting = {index: each for index, each in of_run.items() if each is not None}
    unused = tuple(index for index, each in reporting.items() if _is_unused(run, index, each))
    used = {index: each for index, each in reporting.items() if index not in unused}
    if not reporting:
        raise NotJudged("the run's GPUs report no utilisation, as in MIG mode")
    if not unused:
        return None
    since_s = max(run.started_s, _first_use_s(used)) if used else run.started_s
    if (run.ended_s - since_s) / 60 < _wait_minutes(run, any_is_used=bool(used)):
        raise NotJudged("it is too early to say that a GPU stays unused")
    hours = run.duration_s / 3600
    return Finding(
        id="gpu-unused",
        severity="warning",
        title=f"{gpus_in_words(unused)} of {len(run.gpus.indices)} unused for {hours:.1f} h",
        evidence={utilization_key(index): reporting[index].maximum for index in unused[:4]},
        advice="Ask for as many GPUs as the training uses, or start a process for each of them."
        if used
        else "Move the model and its data to the GPU, or ask for a machine without one.",
        waste=Waste(len(unused) * hours, gpus=unused),
        start_s=run.started_s,
        end_s=run.ended_s,
    )


def _is_unused(run: RunView, index: int, utilization: Statistic) -> bool:
    memory = run.get(f"gpu_{index}/process_memory_megabytes") or run.get(
        f"gpu_{index}_memory_usage_megabytes"
    )
    holds_memory = memory is not None and memory.maximum >= LIMITS.gpu_process_memory
    return not holds_memory and not _is_in_use(utilization)


def _wait_minutes(run: RunView, *, any_is_used: bool) -> float:
    if any_is_used:
        return LIMITS.gpu_unused_beside_used
    if not run.has_ended and _is_preparing(run):
        return LIMITS.gpu_unused_preparing
    return LIMITS.gpu_unused_allocated


def _is_preparing(run: RunView) -> bool:
    """Whether the tree computes, downloads or reads: a GPU may wait for that at first."""
    cores = run.get(TREE_CORES)
    if cores is not None and cores.mean >= LIMITS.preparing_cores * 100:
        return True
    transfers = [
        rate(run.get(key)) for key in ("network_receive_megabytes", "process/io_read_megabytes")
    ]
    return max(transfers) >= LIMITS.preparing_transfer


def gpu_thermal(run: RunView) -> Finding | None:
    """Heat that slows a GPU down.

    Raises:
        NotJudged: No GPU says how long it was slowed down.
    """
    check_long_enough(run)
    if not run.gpus.are_known:
        raise NotJudged("it is not known which GPUs are the run's")
    shares = {}
    for index in run.gpus.indices:
        for cause in ("thermal", "hardware"):
            key = f"gpu_{index}/throttled_{cause}_percentage"
            if (found := run.get(key)) is not None:
                shares[key] = found.mean
    if not shares:
        raise NotJudged("no GPU of the run says how long heat held its clocks down")
    hot = {key: round(share, 1) for key, share in shares.items() if share >= LIMITS.thermal}
    if not hot:
        return None
    indices = sorted({int(key.removeprefix("gpu_").partition("/")[0]) for key in hot})
    worst = max(hot.values())
    return Finding(
        id="gpu-thermal",
        severity="warning",
        title=f"{gpus_in_words(indices)} slowed down by heat for {worst:.0f} % of the time",
        evidence=hot,
        advice="Report the machine: its cooling, dust or airflow, or the room, is at fault.",
        share=worst / 100,
    )


def ecc_errors(run: RunView) -> Finding | None:
    """Memory errors of a GPU that ECC could not correct.

    Raises:
        NotJudged: No GPU counts them.
    """
    counted = {
        key: found
        for index in run.gpus.indices
        if (found := run.get(key := f"gpu_{index}/ecc_uncorrected_errors")) is not None
    }
    if not counted:
        raise NotJudged("no GPU of the run counts errors of its memory")
    errors = {key: found.total for key, found in counted.items() if found.total}
    if not errors:
        return None
    indices = sorted(int(key.removeprefix("gpu_").partition("/")[0]) for key in errors)
    return Finding(
        id="ecc-errors",
        severity="critical",
        title=f"{sum(errors.values()):.0f} uncorrected memory errors on {gpus_in_words(indices)}",
        evidence=errors,
        advice="Do not trust the results; report the GPU, and resume from a checkpoint elsewhere.",
    )


def node_gpus(run: RunView) -> NodeGpus | None:
    """How much one node uses of its GPUs; None where they cannot be judged."""
    try:
        use = gpu_use(run)
    except NotJudged:
        return None
    return NodeGpus(use.mean, use.is_certain)


def rank_imbalance(run: RunView) -> Finding | None:
    """A node whose GPUs have much less to do than those of the others.

    Raises:
        NotJudged: The run has one node, or the GPUs of a node cannot be judged.
    """
    uses = {node: use for node, use in run.node_gpus.items() if use is not None}
    unknown = sorted(run.node_gpus.keys() - uses.keys())
    if unknown:
        raise NotJudged(f"the GPUs of {unknown[0]} cannot be judged")
    if len(uses) <= 1:
        raise NotJudged("it takes several nodes")
    slowest = min(uses, key=lambda name: uses[name].mean)
    others = mean(use.mean for name, use in uses.items() if name != slowest)
    low = uses[slowest].mean
    if others < LIMITS.gpu_low or low >= others * LIMITS.imbalance / 100:
        return None
    return Finding(
        id="rank-imbalance",
        severity="warning" if uses[slowest].is_certain else "info",
        title=f"GPUs of {slowest} in use for {low:.0f} % of the time, of the others {others:.0f} %",
        evidence={
            f"{name}/gpu/utilization_percentage": round(use.mean, 1) for name, use in uses.items()
        },
        advice="Look at how the work is divided, and at the disk, network and CPUs of that node.",
        node=slowest,
    )
