"""Metrics of the container's limits, and of the pressure on it and on the host."""

from __future__ import annotations

from mlflow_sysmetrics.catalog.model import LINUX, Aggregate, Metric

_NO_MEMORY_LIMIT = "where no cgroup limits the memory"

CONTAINER_METRICS = (
    Metric(
        "container/memory_usage_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Memory charged to the cgroup with the tightest limit, less the page cache that the "
        "kernel would take back first: what `docker stats` and `kubectl top` show.",
        source="memory.current, memory.stat (version 1: memory.usage_in_bytes)",
        absent=_NO_MEMORY_LIMIT,
        platforms=LINUX,
    ),
    Metric(
        "container/memory_usage_percentage",
        "percentage",
        Aggregate.MEAN,
        "The same memory, as a share of the limit.",
        source="memory.current, memory.stat, memory.max",
        absent=_NO_MEMORY_LIMIT,
        platforms=LINUX,
    ),
    Metric(
        "container/oom_kills",
        "processes",
        Aggregate.TOTAL,
        "Processes of the cgroup that the kernel killed since the run opened, because memory ran "
        "out; in version 1 those of the process's own cgroup.",
        source="memory.events (version 1: memory.oom_control)",
        absent=_NO_MEMORY_LIMIT,
        platforms=LINUX,
    ),
    Metric(
        "container/cpu_throttled_percentage",
        "percentage",
        Aggregate.RATE,
        "Share of the scheduling periods in which the cgroup's CPU quota was used up.",
        source="cpu.stat",
        absent="where no cgroup has a CPU quota",
        reading="container/cpu_throttled_periods",
        per="container/cpu_periods",
        scale=100.0,
        platforms=LINUX,
    ),
    Metric(
        "container/cpu_throttled_cores",
        "cores",
        Aggregate.RATE,
        "CPU cores that the cgroup's CPU quota held back while they had something to run, on "
        "average. Near 0 beside many throttled periods: the quota is used up, and little is lost.",
        source="cpu.stat",
        absent="where no cgroup has a CPU quota",
        reading="container/cpu_throttled_seconds",
        platforms=LINUX,
    ),
)


def _pressure_metrics(prefix: str, of: str, source: str, absent: str) -> tuple[Metric, ...]:
    """Pressure of one set of PSI files, from their microseconds of stalled time."""
    stalls = {
        "cpu_some": "some task waited for a CPU",
        "memory_some": "some task waited for memory",
        "memory_full": "all tasks waited for memory at once",
        "io_some": "some task waited for I/O",
        "io_full": "all tasks waited for I/O at once",
    }
    return tuple(
        Metric(
            f"{prefix}{name}_percentage",
            "percentage",
            Aggregate.RATE,
            f"Share of time in which {stalled}, {of}.",
            source=source.format(name.partition("_")[0]),
            absent=absent,
            reading=f"{prefix}{name}_stalled_microseconds",
            scale=100e-6,
            platforms=LINUX,
        )
        for name, stalled in stalls.items()
    )


PRESSURE_METRICS = _pressure_metrics(
    "pressure/",
    "on the host",
    "/proc/pressure/{}",
    absent="outside Linux, and on a kernel without PSI",
) + _pressure_metrics(
    "container/pressure_",
    "in the process's own cgroup",
    "{}.pressure",
    absent="outside a cgroup of version 2, and on a kernel without PSI",
)
