"""Rules answer whatever the statistics; noise alone makes no warning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from make_findings_corpus import Sketch, healthy
from mlflow_sysmetrics.insight.judging import judge
from mlflow_sysmetrics.insight.rules.gpu import node_gpus
from mlflow_sysmetrics.insight.stored import History, view_of

if TYPE_CHECKING:
    from mlflow_sysmetrics.insight.run import RunView

BEGAN_S = 1_790_000_000.0

KEYS = (
    "process/cpu_utilization_percentage",
    "process/cpu_usage_percentage",
    "process/memory_pss_megabytes",
    "process/memory_uss_megabytes",
    "process/memory_rss_megabytes",
    "process/memory_swap_megabytes",
    "process/num_processes",
    "process/fds_usage_percentage",
    "process/io_read_megabytes",
    "process/io_write_megabytes",
    "network_receive_megabytes",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "container/memory_usage_megabytes",
    "container/memory_usage_percentage",
    "container/oom_kills",
    "container/cpu_throttled_percentage",
    "container/cpu_throttled_cores",
    "container/pressure_io_some_percentage",
    "pressure/io_some_percentage",
    "pressure/memory_some_percentage",
    "disk_usage_megabytes",
    "disk_available_megabytes",
    "disk/working_directory_usage_megabytes",
    "disk/working_directory_available_megabytes",
    "gpu_0_utilization_percentage",
    "gpu_0_memory_usage_megabytes",
    "gpu_0/process_memory_megabytes",
    "gpu_0/throttled_thermal_percentage",
    "gpu_0/throttled_hardware_percentage",
    "gpu_0/ecc_uncorrected_errors",
    "gpu_3_utilization_percentage",
)

FACTS = {
    "sys.gpu_count": ["0", "4", "many"],
    "sysmetrics.gpu_allocation": ["SLURM_JOB_GPUS"],
    "sys.cpu_limit": ["0", "0.5", "64", ""],
    "sys.cpu_cores": ["1", "nan"],
    "sys.memory_gb": ["16", "0", "?"],
    "sys.memory_limit_gb": ["8", "0", "inf"],
    "mlflow.source.name": ["train.py", "ipykernel_launcher.py"],
}

values = st.one_of(
    st.sampled_from([0.0, 1.0, 99.0, 100.0, 1000.0]),
    st.floats(0, 1e7, allow_nan=False),
)


@st.composite
def runs(draw: st.DrawFn) -> RunView:
    """A run with any metrics, of any length, with gaps."""
    count = draw(st.integers(1, 60))
    step_s = draw(st.sampled_from([1.0, 10.0, 60.0, 600.0]))
    histories = {}
    for key in draw(st.sets(st.sampled_from(KEYS), min_size=1)):
        shape = draw(st.sampled_from(["flat", "rising", "any"]))
        level = draw(values)
        history = History()
        for number in range(count):
            value = level * (number if shape == "rising" else 1)
            if shape == "any":
                value = draw(values)
            if number == count - 1 or draw(st.integers(0, 9)):
                history.times_s.append(BEGAN_S + step_s * (number + 1))
                history.values.append(value)
        histories[key] = history
    facts = {
        key: draw(st.sampled_from(texts)) for key, texts in FACTS.items() if draw(st.booleans())
    }
    view = view_of(histories, BEGAN_S, facts)
    uses = {"node_0": node_gpus(view), "node_1": node_gpus(view)}
    is_whole = draw(st.booleans())
    return replace(view, has_ended=draw(st.booleans()), node_gpus=uses if is_whole else {})


@settings(max_examples=60)
@given(runs())
def test_no_rule_fails_whatever_the_run(run: RunView) -> None:
    judgement = judge(run)

    assert [why for why in judgement.not_judged.values() if why.startswith("the rule failed")] == []


@settings(max_examples=15)
@given(st.integers(0, 10**9))
def test_healthy_runs_have_no_warning_whatever_their_noise(seed: int) -> None:
    Sketch.salt = str(seed)
    try:
        drawn = [sketch.history() for sketch in healthy()]
    finally:
        Sketch.salt = ""
    history = drawn[seed % len(drawn)]

    for one in history.views():
        assert [each.title for each in judge(one).warnings] == [], history.name
