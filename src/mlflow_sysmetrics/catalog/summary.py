"""The summary of a run: single values that its row in the runs table sorts by."""

from __future__ import annotations

from dataclasses import dataclass

STATISTICS = ("mean", "p95", "max", "total")
"""What a summary can say of a metric."""

_NO_SUCH_METRIC = "where the run has no such metric"
_GPUS_UNKNOWN = "without a GPU, and where it is not known which GPUs are the run's"


@dataclass(frozen=True)
class SummaryValue:
    """One value of the summary that a run gets unless the setting says otherwise.

    Attributes:
        name: Key below `system/summary/`.
        unit: Unit of the value.
        meaning: What it says.
        absent: When there is no such key.
        metric: Key of the metric that it is a statistic of; empty where it is of none.
        statistic: Which statistic of it.
        unless: Keys of metrics that tell more; it is left out where the run has one of them.
    """

    name: str
    unit: str
    meaning: str
    absent: str = _NO_SUCH_METRIC
    metric: str = ""
    statistic: str = ""
    unless: tuple[str, ...] = ()


def summary_name(metric: str, statistic: str) -> str:
    """Name of a statistic of a metric: `gpu_utilization_percentage_mean`."""
    return f"{metric.replace('/', '_')}_{statistic}"


def _of(
    metric: str, statistic: str, unit: str, meaning: str, unless: tuple[str, ...] = ()
) -> SummaryValue:
    name = summary_name(metric, statistic)
    return SummaryValue(name, unit, meaning, metric=metric, statistic=statistic, unless=unless)


_PSS = "process/memory_pss_megabytes"
_RSS = "process/memory_rss_megabytes"

SUMMARY = (
    _of("cpu_utilization_percentage", "mean", "percentage", "CPU use of the host."),
    _of(
        "cpu_utilization_percentage",
        "p95",
        "percentage",
        "CPU use of the host that was not exceeded for 95 % of the time.",
    ),
    _of(
        "process/cpu_utilization_percentage",
        "mean",
        "percentage",
        "CPU use of the process tree, as a share of the CPUs that it may use.",
    ),
    _of(
        "process/cpu_utilization_percentage",
        "p95",
        "percentage",
        "The same, not exceeded for 95 % of the time.",
    ),
    SummaryValue(
        "process_cpu_seconds_total",
        "seconds",
        "CPU time of the process tree.",
        metric="process/cpu_usage_percentage",
        statistic="cpu_seconds",
    ),
    _of(
        _PSS,
        "max",
        "megabytes",
        "Most memory of the process tree at a sample, shared pages counted once.",
    ),
    _of(
        _RSS,
        "max",
        "megabytes",
        "Most memory of the process tree at a sample, where PSS is not known.",
        unless=(_PSS,),
    ),
    _of(
        "system_memory_usage_megabytes",
        "max",
        "megabytes",
        "Most memory in use on the host at a sample, where the process tree's is not known.",
        unless=(_PSS, _RSS),
    ),
    _of(
        "container/memory_usage_percentage",
        "max",
        "percentage",
        "Most memory of the container at a sample, as a share of its limit.",
    ),
    _of(
        "container/cpu_throttled_percentage",
        "mean",
        "percentage",
        "Share of the scheduling periods in which the container's CPU quota was used up.",
    ),
    _of("gpu/utilization_percentage", "mean", "percentage", "Utilisation of the run's GPUs."),
    _of(
        "gpu/utilization_percentage",
        "p95",
        "percentage",
        "Utilisation of the run's GPUs that was not exceeded for 95 % of the time.",
    ),
    SummaryValue(
        "gpu_memory_usage_percentage_max",
        "percentage",
        "Most memory in use at a sample on any of the run's GPUs, as a share of its memory.",
        "where no GPU of the run reports it",
    ),
    _of("gpu/power_usage_watts", "mean", "watts", "Power draw of all of the run's GPUs."),
    _of("gpu/energy_joules", "total", "joules", "Energy that the run's GPUs used."),
    _of(
        "gpu/energy_estimated_joules",
        "total",
        "joules",
        "Energy that the run's GPUs used, estimated where not all of them count it.",
    ),
    SummaryValue(
        "gpu_hours", "hours", "Duration times the number of the run's GPUs.", _GPUS_UNKNOWN
    ),
    SummaryValue(
        "gpu_hours_wasted",
        "hours",
        "GPU-hours in which findings saw a GPU not used, each hour of a GPU counted once.",
        _GPUS_UNKNOWN + "; where no finding about GPUs could be judged",
    ),
    _of(
        "pressure/io_some_percentage",
        "mean",
        "percentage",
        "Share of time in which some task of the host waited for I/O.",
    ),
    _of("network_receive_megabytes", "total", "megabytes", "Data received, loopback included."),
    _of("network_transmit_megabytes", "total", "megabytes", "Data sent, loopback included."),
    _of("process/io_read_megabytes", "total", "megabytes", "Data that the tree read from storage."),
    _of("process/io_write_megabytes", "total", "megabytes", "Data that the tree wrote to storage."),
    SummaryValue("duration_seconds", "seconds", "Time that was sampled.", "never"),
    SummaryValue("samples", "samples", "Number of samples.", "never"),
    SummaryValue(
        "findings",
        "findings",
        "Number of findings that are warnings or worse.",
        "where findings are off, or none could be judged",
    ),
)
"""In the order of the reference. No run has more than 25 of them, since of several that say the
same in different ways it has one."""
