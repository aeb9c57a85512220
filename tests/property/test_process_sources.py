"""Parsers fail only as they say, whatever is printed; totals never fall, whatever happens."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_sysmetrics.collectors.counters import KeyedTotal
from mlflow_sysmetrics.collectors.tree_totals import TreeTotals
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cgroup import (
    count_allowed_cpus,
    count_cpus,
    parse_bytes_limit,
    parse_cpu_max,
)
from mlflow_sysmetrics.sources.cgroup_paths import parse_cgroup, parse_mountinfo
from mlflow_sysmetrics.sources.cgroup_use import parse_single
from mlflow_sysmetrics.sources.cpu_times import parse_cpu_times, parse_load
from mlflow_sysmetrics.sources.diskstats import parse_diskstats
from mlflow_sysmetrics.sources.fields import find_number
from mlflow_sysmetrics.sources.meminfo import parse_memory, parse_swap
from mlflow_sysmetrics.sources.net_dev import parse_net_dev
from mlflow_sysmetrics.sources.own_cgroup import parse_cpu_stat, parse_cpuacct_usage
from mlflow_sysmetrics.sources.pressure import parse_pressure
from mlflow_sysmetrics.sources.proc_pid import (
    parse_io,
    parse_smaps_rollup,
    parse_stat,
    parse_statm,
)
from mlflow_sysmetrics.sources.process_use import ProcessUse

if TYPE_CHECKING:
    from collections.abc import Callable

OF_BYTES = {
    parse_stat: b"4798 (a) S 4788 4788 3366 0 -1 4194304 100 0 7 0 12 3 250 40 20 0 8 0 107205 3 4",
    parse_statm: b"765 360 347 5 0 110 0\n",
    parse_io: b"read_bytes: 12288\nwrite_bytes: 4096\n",
    parse_smaps_rollup: b"Pss:    30 kB\nPrivate_Clean:     1 kB\n",
}
OF_TEXT = {
    parse_bytes_limit: "536870912",
    parse_cpu_max: "150000 100000",
    count_cpus: "0-3,8",
    count_allowed_cpus: "Name:\tx\nCpus_allowed_list:\t0-3,8\n",
    parse_cgroup: "4:cpu,cpuacct:/docker/3f1a\n0::/a\n",
    parse_mountinfo: "35 31 0:32 /a /sys/fs/cgroup/memory ro shared:9 - cgroup cgroup rw,memory\n",
    partial(find_number, before="nr_throttled"): "nr_periods 12\nnr_throttled 3\n",
    parse_cpu_stat: "usage_usec 532218\nuser_usec 4\n",
    parse_cpuacct_usage: "5322187654\n",
    parse_cpu_times: "cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0\nintr 1\n",
    parse_load: "0.20 0.18 0.12 1/80 11206\n",
    parse_memory: "MemTotal:    2048 kB\nMemFree:     1 kB\nMemAvailable:       1024 kB\n",
    parse_single: "536870912\n",
    parse_swap: "SwapTotal:    2048 kB\nSwapFree:       1024 kB\n",
    parse_diskstats: "254 0 vda 15089 9385 2153210 10488 8635 60310 4505840 19180 0 0 0\n",
    parse_net_dev: "Inter-|\n face |\n  eth0: 1296211 9385 0 0 0 0 0 0 504840 19180 0 0 0 0 0 0\n",
    parse_pressure: "some avg10=0.24 avg60=0.39 avg300=0.16 total=7655097\n",
}


@st.composite
def damaged(draw: st.DrawFn, samples: list[str]) -> str:
    """A sample with a piece of it replaced."""
    text = draw(st.sampled_from(samples))
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, len(text)))
    return text[:begin] + draw(st.text(max_size=10)) + text[end:]


@pytest.mark.parametrize(
    ("parse", "sample"), OF_TEXT.items(), ids=lambda of: getattr(of, "__name__", "")
)
@given(data=st.data())
def test_text_that_is_not_in_the_format(
    parse: Callable[[str], object], sample: str, data: st.DataObject
) -> None:
    _parse_or_fail_as_said(parse, data.draw(st.text() | damaged([sample])))


@pytest.mark.parametrize(
    ("parse", "sample"), OF_BYTES.items(), ids=lambda of: getattr(of, "__name__", "")
)
@given(data=st.data())
def test_bytes_that_are_not_in_the_format(
    parse: Callable[[bytes], object], sample: bytes, data: st.DataObject
) -> None:
    broken = damaged([sample.decode()]).map(str.encode)
    _parse_or_fail_as_said(parse, data.draw(st.binary() | broken))


def _parse_or_fail_as_said(parse: Callable[..., object], content: object) -> None:
    with suppress(ParseError):
        parse(content)


counters = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2**64), max_size=3)


@given(st.lists(counters))
def test_a_keyed_total_never_falls(updates: list[dict[str, int]]) -> None:
    total = KeyedTotal()

    totals = [total.update(values) for values in updates]

    assert totals == sorted(totals)
    assert all(value >= 0 for value in totals)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), min_size=3)))
def test_a_keyed_total_of_rising_counters_is_their_rise(increments: list[dict[str, int]]) -> None:
    total = KeyedTotal()
    values = dict.fromkeys("abc", 100)
    result = total.update(values)

    for rise in increments:
        values = {key: value + rise[key] for key, value in values.items()}
        result = total.update(values)

    assert result == sum(values.values()) - 300


def processes() -> st.SearchStrategy[list[ProcessUse]]:
    few = st.integers(0, 20)
    use = st.builds(
        ProcessUse,
        pid=st.integers(2, 5),
        start=st.sampled_from([0.0, 150.0, 160.0]),
        parent_pid=st.integers(1, 5),
        threads=few,
        rss_bytes=few,
        vms_bytes=few,
        fds=few,
        cpu_s=few.map(float),
        reaped_cpu_s=few.map(float),
        read_bytes=st.none() | few,
        write_bytes=st.none() | few,
    )
    return st.lists(use, min_size=1, unique_by=lambda use: use.pid)


@given(ticks=st.lists(processes()), inherits=st.booleans())
def test_totals_of_a_tree_never_fall(ticks: list[list[ProcessUse]], *, inherits: bool) -> None:
    """Even where parents go round in circles."""
    totals = TreeTotals(100.0, inherits_io=inherits)
    seen = [(0.0, 0.0, 0.0)]

    for uses in ticks:
        totals.update(uses)
        seen.append((totals.cpu_s, totals.read_bytes, totals.write_bytes))

    for quantity in zip(*seen, strict=True):
        assert list(quantity) == sorted(quantity)
