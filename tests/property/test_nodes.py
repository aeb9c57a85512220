"""Nodes summed up from their tags are what plain sums over all their samples give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_sysmetrics.insight.node_tag import NodeTag, key_of, node_tags
from mlflow_sysmetrics.insight.part import beside
from mlflow_sysmetrics.insight.run import RunView
from mlflow_sysmetrics.insight.statistics import Accumulator, Grid, frozen
from mlflow_sysmetrics.insight.whole import answers_of, result_of
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from random import Random

    from mlflow_sysmetrics.insight.whole import NodeResult

BEGAN_S = 1_800_000_000.0
SHARE, TOTAL = "cpu_utilization_percentage", "network_receive_megabytes"
POWER = "gpu/power_usage_watts"

shares = st.floats(0, 100, width=32)
nodes = st.lists(
    st.tuples(st.floats(0, 600), st.lists(st.tuples(shares, shares), min_size=3, max_size=40)),
    min_size=2,
    max_size=6,
)


def node_of(number: int, late_s: float, samples: list[tuple[float, float]]) -> NodeResult:
    grid = Grid()
    accumulators = {key: Accumulator(key, grid) for key in (SHARE, TOTAL, POWER)}
    began_s, increase = BEGAN_S + late_s, 0.0
    for count, (share, rise) in enumerate(samples, 1):
        time_s = began_s + 10.0 * count
        increase += rise
        for key, value in ((SHARE, share), (TOTAL, increase), (POWER, share)):
            accumulators[key].add(time_s, value, 10.0, grid.number(time_s))
    statistics = frozen(accumulators)
    view = RunView(statistics, began_s, 10.0 * len(samples), len(samples), node=f"node_{number}")
    return result_of(view, Settings())


@given(nodes)
def test_a_whole_from_tags_is_that_of_all_samples(
    given_nodes: list[tuple[float, list[tuple[float, float]]]],
) -> None:
    results = [node_of(number, *node) for number, node in enumerate(given_nodes)]
    tags = {
        key_of(str(each.node)): NodeTag("final", len(results), each).to_text() for each in results
    }

    kept = [each.result for each in node_tags(tags)]
    summary = answers_of(kept, Settings(), "final").summary

    series = [samples for _, samples in given_nodes]
    all_shares = [share for samples in series for share, _ in samples]
    longest = max(map(len, series))
    mean = sum(all_shares) / len(all_shares)
    rise = sum(rise for samples in series for _, rise in samples)
    assert summary["summary/samples"] == len(all_shares)
    assert summary["summary/duration_seconds"] == 10.0 * longest
    assert summary[f"summary/{SHARE}_mean"] == pytest.approx(mean, rel=1e-4, abs=1e-3)
    assert summary[f"summary/{TOTAL}_total"] == pytest.approx(rise, rel=1e-4, abs=1e-3)
    power = summary["summary/gpu_power_usage_watts_mean"]
    assert power == pytest.approx(sum(all_shares) / longest, rel=1e-4, abs=1e-3)
    assert beside(each.part for each in kept).ended_s == pytest.approx(
        max(BEGAN_S + late_s + 10.0 * len(samples) for late_s, samples in given_nodes), abs=1.0
    )


@given(nodes, st.randoms())
def test_the_order_in_which_nodes_end_does_not_matter(
    given_nodes: list[tuple[float, list[tuple[float, float]]]], random: Random
) -> None:
    results = [node_of(number, *node) for number, node in enumerate(given_nodes)]
    tags = [
        (key_of(str(each.node)), NodeTag("final", len(results), each).to_text()) for each in results
    ]
    shuffled = list(tags)
    random.shuffle(shuffled)

    one, other = (
        answers_of([each.result for each in node_tags(dict(found))], Settings(), "final")
        for found in (tags, shuffled)
    )

    assert (one.summary, one.tags) == (other.summary, other.tags)
