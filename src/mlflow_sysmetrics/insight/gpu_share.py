"""Which of the GPUs that have metrics are the run's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.run import Known, RunGpus
from mlflow_sysmetrics.insight.thresholds import LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.insight.statistics import Statistic

OF_ONE_GPU = re.compile(r"gpu_([0-9]+)[_/]")
"""What keys of one GPU begin with."""

ALLOCATION_TAG = "sysmetrics.gpu_allocation"


def run_gpus(statistics: Mapping[str, Statistic], facts: Mapping[str, str]) -> RunGpus:
    """The GPUs of a run, or of one node of it.

    Those that have metrics were given to it where a scheduler or a device plugin chose them, or
    where they are fewer than the host has. Else those are the run's whose memory its tree holds.

    Args:
        statistics: Of the run, by metric key.
        facts: The run's tags.
    """
    indices = sorted({int(found[1]) for key in statistics if (found := OF_ONE_GPU.match(key))})
    count = facts.get("sys.gpu_count", "")
    if ALLOCATION_TAG in facts or (count.isdecimal() and len(indices) < int(count)):
        return RunGpus(tuple(indices), Known.GIVEN)
    held = tuple(index for index in indices if _is_held(index, statistics))
    return RunGpus(held, Known.HELD) if held else RunGpus(tuple(indices), Known.UNKNOWN)


def _is_held(index: int, statistics: Mapping[str, Statistic]) -> bool:
    memory = statistics.get(f"gpu_{index}/process_memory_megabytes")
    return memory is not None and memory.maximum >= LIMITS.gpu_process_memory
