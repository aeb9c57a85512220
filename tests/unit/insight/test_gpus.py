from __future__ import annotations

from array import array

import pytest

from mlflow_sysmetrics.insight.gpus import gpus_of
from mlflow_sysmetrics.insight.run import Known, RunGpus
from mlflow_sysmetrics.insight.stored import History, view_of

BEGAN_S = 1_790_000_000.0


def gpus(facts: dict[str, str], own_megabytes: float | None = None) -> RunGpus:
    """Those of a run with metrics of GPUs 0 and 2, which may hold memory of the second."""
    levels = {"gpu_0_utilization_percentage": 0.0, "gpu_2_utilization_percentage": 50.0}
    if own_megabytes is not None:
        levels["gpu_2/process_memory_megabytes"] = own_megabytes
    times_s = array("d", [BEGAN_S, BEGAN_S + 10])
    histories = {key: History(times_s, array("d", [each] * 2)) for key, each in levels.items()}
    return gpus_of(view_of(histories, BEGAN_S, facts).statistics, facts)


@pytest.mark.parametrize(
    "facts", [{"sysmetrics.gpu_allocation": "SLURM_JOB_GPUS"}, {"sys.gpu_count": "8"}]
)
def test_gpus_are_given_by_a_scheduler_or_as_some_of_the_hosts(facts: dict[str, str]) -> None:
    assert gpus(facts) == RunGpus((0, 2), Known.GIVEN)


def test_else_those_are_the_runs_whose_memory_its_tree_holds() -> None:
    assert gpus({"sys.gpu_count": "2"}, own_megabytes=4000) == RunGpus((2,), Known.HELD)


@pytest.mark.parametrize("own_megabytes", [None, 0, 300])
def test_else_nobody_knows(own_megabytes: float | None) -> None:
    """300 MB are what a process takes that only looks at a GPU."""
    found = gpus({"sys.gpu_count": "2"}, own_megabytes)

    assert found == RunGpus((0, 2), Known.UNKNOWN)
    assert not found.are_known
