"""Metrics of the process tree, and of the sampler within it."""

from __future__ import annotations

from mlflow_sysmetrics.catalog.model import (
    BYTES_TO_MEGABYTES,
    LINUX,
    LINUX_AND_WINDOWS,
    Aggregate,
    Metric,
)

PROCESS_METRICS = (
    Metric(
        "process/cpu_usage_percentage",
        "percentage",
        Aggregate.RATE,
        "CPU time of the process tree; 100 means one busy core.",
        source="/proc/<pid>/stat, and cpuacct.usage or cpu.stat of a cgroup that holds only the "
        "tree; psutil elsewhere",
        reading="process/cpu_seconds",
        scale=100.0,
    ),
    Metric(
        "process/cpu_utilization_percentage",
        "percentage",
        Aggregate.RATE,
        "CPU time of the process tree, as a share of the CPUs that it may use (cgroup quota, "
        "cpuset, affinity).",
        source="/proc/<pid>/stat; psutil elsewhere",
        reading="process/cpu_share_seconds",
        scale=100.0,
    ),
    Metric(
        "process/memory_rss_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Resident memory, summed over the tree; a page that several processes share counts once "
        "for each of them.",
        source="/proc/<pid>/statm; psutil elsewhere",
    ),
    Metric(
        "process/memory_vms_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Virtual memory (address space), summed over the tree.",
        source="/proc/<pid>/statm; psutil elsewhere",
    ),
    Metric(
        "process/memory_uss_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Memory that each process shares with no other, summed over the tree: what would be free "
        "if that process ended.",
        source="/proc/<pid>/smaps_rollup; psutil elsewhere",
        absent="for processes of other users, and between its own samples, which are fewer",
    ),
    Metric(
        "process/memory_pss_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Memory of the tree, each shared page divided among the processes that share it: the "
        "figure to add up over forked workers.",
        source="/proc/<pid>/smaps_rollup",
        absent="outside Linux, for processes of other users, and between its own samples, which "
        "are fewer",
        platforms=LINUX,
    ),
    Metric(
        "process/memory_swap_megabytes",
        "megabytes",
        Aggregate.MEAN,
        "Memory of the tree that is in swap, each shared page divided as for PSS.",
        source="`/proc/<pid>/smaps_rollup`",
        absent="outside Linux, for processes of other users, and between its own samples, which "
        "are fewer",
        platforms=LINUX,
    ),
    Metric(
        "process/memory_usage_percentage",
        "percentage",
        Aggregate.MEAN,
        "Resident memory of the tree, as a share of the memory limit, or of the host's memory "
        "where there is no limit.",
        source="/proc/<pid>/statm, cgroup; psutil elsewhere",
    ),
    Metric(
        "process/sampler_cpu_milliseconds",
        "milliseconds",
        Aggregate.MEAN,
        "CPU time that was spent on one sample.",
        source="thread CPU time of the sampler",
    ),
    Metric(
        "process/num_processes",
        "processes",
        Aggregate.MEAN,
        "Number of processes in the tree, its root included.",
        source="/proc/<pid>/stat; psutil elsewhere",
    ),
    Metric(
        "process/num_threads",
        "threads",
        Aggregate.MEAN,
        "Number of threads in the tree.",
        source="/proc/<pid>/stat; psutil elsewhere",
    ),
    Metric(
        "process/num_fds",
        "descriptors",
        Aggregate.MEAN,
        "Number of open file descriptors in the tree (handles on Windows); a steady climb is a "
        "leak.",
        source="/proc/<pid>/fd; psutil elsewhere",
        absent="for processes of other users",
    ),
    Metric(
        "process/fds_usage_percentage",
        "percentage",
        Aggregate.MEAN,
        "File descriptors of the process of the tree that has most of them open, as a share of its "
        "limit (`ulimit -n`).",
        source="`/proc/<pid>/fd`, `/proc/<pid>/limits`",
        absent="outside Linux, and for processes of other users",
        platforms=LINUX,
    ),
    Metric(
        "process/io_read_megabytes",
        "megabytes",
        Aggregate.TOTAL,
        "Data read from storage by the tree since the run opened.",
        source="/proc/<pid>/io; psutil elsewhere",
        absent="on macOS, and for processes of other users",
        reading="process/io_read_bytes",
        scale=BYTES_TO_MEGABYTES,
        platforms=LINUX_AND_WINDOWS,
    ),
    Metric(
        "process/io_write_megabytes",
        "megabytes",
        Aggregate.TOTAL,
        "Data written to storage by the tree since the run opened. On Linux without files that "
        "were deleted before they were written.",
        source="/proc/<pid>/io; psutil elsewhere",
        absent="on macOS, and for processes of other users",
        reading="process/io_write_bytes",
        scale=BYTES_TO_MEGABYTES,
        platforms=LINUX_AND_WINDOWS,
    ),
)
