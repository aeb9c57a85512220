"""Whatever a file or a tool says, a parser parses it or raises ParseError, and tags stay valid."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_sysmetrics.accelerators.apple.system_profiler import parse_system_profiler
from mlflow_sysmetrics.accelerators.facts import gpu_tags
from mlflow_sysmetrics.accelerators.nvidia.smi import parse_nvidia_smi
from mlflow_sysmetrics.accelerators.windows.adapters import parse_win32_video
from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH
from mlflow_sysmetrics.facts import tags_of
from mlflow_sysmetrics.facts.probes import Outcome
from mlflow_sysmetrics.facts.system import windows_name
from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.container import name_by_cgroup, name_by_environ_block
from mlflow_sysmetrics.sources.cpuinfo import parse_cpuinfo
from mlflow_sysmetrics.sources.meminfo import parse_meminfo_bytes
from mlflow_sysmetrics.sources.os_release import parse_os_release
from mlflow_sysmetrics.sources.virtualization import name_by_clocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.accelerators.inventory import Inventory

PARSERS = (
    name_by_cgroup,
    name_by_clocks,
    name_by_environ_block,
    parse_cpuinfo,
    parse_nvidia_smi,
    parse_os_release,
    parse_system_profiler,
    lambda text: parse_meminfo_bytes(text, "MemTotal"),
    parse_win32_video,
)

WORDS = st.sampled_from(
    (
        "model name", "cpu", "CPU implementer", "CPU part", "0x41", "0xd40", "vendor_id",
        "IBM/S390", "processor 0", "machine = ", "MemTotal:", " kB", "Tesla T4", "15360", "[N/A]",
        "535.54", "PRETTY_NAME", "container", "kvm-clock", "/docker/", "Name", "DriverVersion",
        "SPDisplaysDataType", "sppci_model", "spdisplays_vram", "4 GB", "null", "1e999",
        ":", " : ", ", ", "=", '"', "'", "\\", "[", "]", "{", "}", "\n", "\n\n", "\0",
    )
)  # fmt: skip
"""What makes random text look like what the parsers know."""

TEXT = st.text() | st.lists(WORDS | st.text(max_size=3), max_size=30).map("".join)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(text=TEXT)
def test_parsers_raise_only_parse_errors(parse: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(ParseError):
        parse(text)


@pytest.mark.parametrize("parse", [parse_system_profiler, parse_win32_video])
@given(told=JSON)
def test_any_json_is_parsed_or_refused(parse: Callable[[str], Inventory], told: object) -> None:
    text = json.dumps(told)
    for document in (text, f'{{"SPDisplaysDataType": {text}}}'):
        with contextlib.suppress(ParseError):
            gpu_tags(parse(document))


@given(
    cards=st.lists(
        st.fixed_dictionaries({"Name": st.text(), "DriverVersion": st.none() | st.text()})
    )
)
def test_gpu_tags_never_contradict_each_other(cards: list[dict[str, str | None]]) -> None:
    tags = gpu_tags(parse_win32_video(json.dumps(cards)))

    assert tags["sys.gpu"]
    assert (tags["sys.gpu"] == "None") == ("sys.gpu_count" not in tags)


@given(release=st.text(), version=st.text(), edition=st.text())
def test_windows_always_has_a_name(release: str, version: str, edition: str) -> None:
    assert windows_name(release, version, edition).startswith("Windows")


@given(values=st.lists(st.text() | st.text().map(lambda text: text * 200)), error=st.text())
def test_tag_values_are_within_the_cap_and_never_empty(values: list[str], error: str) -> None:
    outcomes = [Outcome({f"sys.{n}": value}, error) for n, value in enumerate(values)]

    assert all(0 < len(value) <= MAX_TAG_LENGTH for value in tags_of(outcomes).values())
