"""Which of the GPUs that have metrics are the run's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.insight.run import Known, RunGpus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_sysmetrics.insight.statistics import Statistic

OF_ONE_GPU = re.compile(r"gpu_([0-9]+)[_/]")
"""What keys of one GPU begin with."""

_GIVE = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "NVIDIA_VISIBLE_DEVICES",
    "SLURM_JOB_GPUS",
    "SLURM_STEP_GPUS",
)
"""Variables by which a user, a scheduler or a device plugin gives GPUs to a process."""

_GIVES_NOTHING = {"", "all", "none", "void", "no"}


def run_gpus(
    statistics: Mapping[str, Statistic], environ: Mapping[str, str] | None = None
) -> RunGpus:
    """The GPUs of a run.

    Args:
        statistics: Of the run, by metric key.
        environ: The environment of the process that is sampled, if GPUs without use by the run
            are left out by it; None where that is not known.
    """
    indices = sorted({int(found[1]) for key in statistics if (found := OF_ONE_GPU.match(key))})
    if environ is not None and _are_given(environ):
        return RunGpus(tuple(indices), Known.GIVEN)
    held = tuple(index for index in indices if _is_held(index, statistics))
    return RunGpus(held, Known.HELD) if held else RunGpus(tuple(indices), Known.UNKNOWN)


def _are_given(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name, "").strip().lower() not in _GIVES_NOTHING for name in _GIVE)


def _is_held(index: int, statistics: Mapping[str, Statistic]) -> bool:
    memory = statistics.get(f"gpu_{index}/process_memory_megabytes")
    return memory is not None and memory.maximum > 0
