"""What hosts other than rank 0's log of themselves: enough to see which of them differs."""

from __future__ import annotations

FOLLOWER_KEYS = (
    "cpu_utilization_percentage",
    "system_memory_usage_percentage",
    "process/cpu_usage_percentage",
    "process/cpu_utilization_percentage",
    "process/memory_rss_megabytes",
    "process/memory_pss_megabytes",
    "process/num_processes",
    "container/memory_usage_percentage",
    "container/cpu_throttled_percentage",
    "pressure/io_some_percentage",
    "network/receive_megabytes_per_second",
    "network/transmit_megabytes_per_second",
    "disk/read_megabytes_per_second",
    "disk/write_megabytes_per_second",
    "disk_available_megabytes",
)
"""Of the host, its container and its process tree."""

GPU_KEYS = ("utilization_percentage", "memory_usage_percentage", "power_usage_watts")
"""Of each GPU."""

FOLLOWER_GLOBS = (
    *FOLLOWER_KEYS,
    *(f"gpu_{digits}_{key}" for digits in ("[0-9]", "[0-9][0-9]") for key in GPU_KEYS),
)
