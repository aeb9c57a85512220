"""Whatever a driver's file or a tool says: it is parsed, or refused with ParseError."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_sysmetrics.accelerators.amd import visibility as rocm_visibility
from mlflow_sysmetrics.accelerators.amd.kfd import parse_node
from mlflow_sysmetrics.accelerators.apple.collector import gpu_readings, parse_ioreg
from mlflow_sysmetrics.accelerators.drm import parse_number, parse_uevent
from mlflow_sysmetrics.accelerators.intel import visibility as oneapi_visibility
from mlflow_sysmetrics.accelerators.neuron.collector import parse_neuron_monitor
from mlflow_sysmetrics.accelerators.pci_names import parse_amdgpu_ids, parse_pci_ids
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from collections.abc import Callable

PARSERS = (
    parse_ioreg,
    parse_neuron_monitor,
    lambda text: parse_node("41214", text),
    parse_uevent,
    lambda text: parse_amdgpu_ids(text, "744c", "c8"),
    lambda text: parse_pci_ids(text, "1002", "744c"),
)

WORDS = st.sampled_from(
    (
        "+-o ", '"PerformanceStatistics" = {', '"Device Utilization %"=', "vramUsedBytes", "}",
        "location_id ", "domain ", "drm_render_minor ", "unique_id ", "DRIVER=", "PCI_ID=",
        "1002:744C", "PCI_SLOT_NAME=", "0000:03:00.0", "744C,\tC8,\t",
        "1002  AMD\n", "\t744c  Navi 31 [", "]", "#", "99", "-1", "1e999", "null",
        ",", ":", "=", "\n", "\t", "\0",
    )
)  # fmt: skip
"""What makes random text look like what the parsers know."""

TEXT = st.text() | st.lists(WORDS | st.text(max_size=3), max_size=30).map("".join)

KEYS = st.sampled_from(
    (
        "neuron_runtime_data", "report", "neuroncore_counters", "neuroncores_in_use",
        "neuroncore_utilization", "memory_used", "neuron_runtime_used_bytes", "usage_breakdown",
        "neuroncore_memory_usage", "0", "-1", "x", "tensors",
    )
)  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)

TOKENS = st.lists(
    st.sampled_from(
        ("0", "1", "7", "-1", "", " 2 ", "1.0", "GPU-", "GPU-ab", "*", "!", ":", "level_zero", ";")
    )
    | st.text(max_size=4)
).map(",".join)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=TEXT)
def test_parsers_raise_only_parse_errors(parse: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(ParseError):
        parse(text)


@given(content=st.binary())
def test_a_number_is_whole_and_not_negative(content: bytes) -> None:
    with contextlib.suppress(ParseError):
        assert parse_number(content) >= 0


@given(told=JSON)
def test_a_report_of_neuron_monitor_reports_amounts_or_is_refused(told: object) -> None:
    counters = {"neuroncore_counters": {"neuroncores_in_use": told}}
    breakdown = {"usage_breakdown": {"neuroncore_memory_usage": told}}
    memory = {"memory_used": {"neuron_runtime_used_bytes": breakdown}}
    documents = [{"neuron_runtime_data": [{"report": each}]} for each in (told, counters, memory)]

    for document in (told, *documents):
        with contextlib.suppress(ParseError):
            for amounts in parse_neuron_monitor(json.dumps(document)):
                assert all(core >= 0 for core in amounts)
                assert all(math.isfinite(amount) and amount >= 0 for amount in amounts.values())


@given(
    statistics=st.dictionaries(
        st.sampled_from(
            (
                "Device Utilization %",
                "In use system memory",
                "vramUsedBytes",
                "vramFreeBytes",
                "Total Power(W)",
            )
        ),
        st.integers(0, (1 << 63) - 1),
    )
)
def test_what_ioreg_reports_makes_finite_readings(statistics: dict[str, int]) -> None:
    readings = gpu_readings(statistics)

    assert all(math.isfinite(value) for value in readings.values())
    assert readings.get("memory_usage_percentage", 0) <= 100


@given(rocr=st.none() | TOKENS, hip=st.none() | TOKENS, count=st.integers(0, 4))
def test_rocm_shows_only_gpus_that_there_are(rocr: str | None, hip: str | None, count: int) -> None:
    told = {"ROCR_VISIBLE_DEVICES": rocr, "HIP_VISIBLE_DEVICES": hip}
    environ = {name: value for name, value in told.items() if value is not None}

    visible = rocm_visibility.visible_devices(environ, [f"GPU-ab{n:014d}" for n in range(count)])

    assert len(set(visible)) == len(visible)
    assert set(visible) <= set(range(count))


@given(mask=TOKENS, selector=TOKENS, tiles=st.lists(st.integers(1, 2), max_size=3))
def test_level_zero_shows_only_gpus_that_there_are(
    mask: str, selector: str, tiles: list[int]
) -> None:
    environ = {"ZE_AFFINITY_MASK": mask, "ONEAPI_DEVICE_SELECTOR": selector}

    visible = oneapi_visibility.visible_devices(environ, tiles)

    assert len(set(visible)) == len(visible)
    assert set(visible) <= set(range(len(tiles)))
