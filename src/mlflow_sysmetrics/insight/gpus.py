"""Which GPUs are the run's, by what was logged of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.run import Known, RunGpus
from mlflow_sysmetrics.insight.thresholds import LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.insight.statistics import Statistic

GPU_ALLOCATION_TAG = "sysmetrics.gpu_allocation"

_OF_A_GPU = re.compile(r"gpu_([0-9]+)[_/]")


def gpus_of(statistics: Mapping[str, Statistic], facts: Mapping[str, str]) -> RunGpus:
    """The GPUs of a run, or of one node of it.

    Given are those that have metrics where a scheduler or device plugin chose them, or where they
    are fewer than the host has. Else those are the run's whose memory its processes hold.

    Args:
        statistics: Of the run, or the node.
        facts: The run's tags.
    """
    numbers = {int(match[1]) for key in statistics if (match := _OF_A_GPU.match(key)) is not None}
    indices = tuple(sorted(numbers))
    count = facts.get("sys.gpu_count", "")
    if GPU_ALLOCATION_TAG in facts or (count.isdecimal() and len(indices) < int(count)):
        return RunGpus(indices, Known.GIVEN)
    held = tuple(each for each in indices if _is_held(statistics, each))
    return RunGpus(held, Known.HELD) if held else RunGpus(indices, Known.UNKNOWN)


def _is_held(statistics: Mapping[str, Statistic], index: int) -> bool:
    own = statistics.get(f"gpu_{index}/process_memory_megabytes")
    return own is not None and own.maximum >= LIMITS.gpu_process_memory
