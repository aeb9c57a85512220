"""Whatever the environment names and the driver tells, there are GPUs, and a tag that fits."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_sysmetrics.accelerators.description import describe_devices
from mlflow_sysmetrics.accelerators.inventory import Device, MigInstance
from mlflow_sysmetrics.accelerators.nvidia.visibility import (
    parse_cuda_visible_devices,
    parse_nvidia_visible_devices,
)
from mlflow_sysmetrics.catalog import MAX_TAG_LENGTH

texts = st.text(max_size=80)
uuids = st.from_regex(r"GPU-[0-9a-f]{2,8}-[0-9a-f]{4}", fullmatch=True)
instances = st.builds(
    MigInstance,
    number=st.integers(0, 6),
    uuid=st.none() | st.from_regex(r"MIG-[0-9a-f]{2,8}", fullmatch=True),
    profile=st.none() | texts,
)


@st.composite
def hosts(draw: st.DrawFn) -> list[Device]:
    """The GPUs of a host."""
    return [
        Device(
            index,
            draw(texts),
            draw(st.none() | st.integers(1, 2**40)),
            draw(st.none() | uuids),
            draw(st.none() | st.from_regex(r"[0-9A-F]{8}:[0-9A-F]{2}:00\.0", fullmatch=True)),
            draw(st.none() | st.just("9.0")),
            draw(st.none() | st.floats(1, 2000)),
            mig_instances=tuple(draw(st.lists(instances, max_size=7))),
        )
        for index in range(draw(st.integers(0, 12)))
    ]


entries = (
    st.sampled_from(["0", "1", "7", "-1", "all", "none", "void", "", "GPU-", "MIG-", "1:0"])
    | uuids
    | texts
)


@given(st.lists(entries, max_size=6).map(",".join), hosts())
@example("9" * 5000, [])
@example("\N{ARABIC-INDIC DIGIT THREE}", [Device(0, "T4", None, None)])
def test_what_is_visible_is_there_and_once(text: str, devices: list[Device]) -> None:
    there = {(device.index, None) for device in devices} | {
        (device.index, instance.number) for device in devices for instance in device.mig_instances
    }

    for parse in (parse_cuda_visible_devices, parse_nvidia_visible_devices):
        visible = parse(text, devices)
        assert set(visible) <= there
        assert len(visible) == len(set(visible))


@given(hosts())
def test_the_tag_is_json_that_fits(devices: list[Device]) -> None:
    text = describe_devices(devices)

    assert len(text) <= MAX_TAG_LENGTH
    if text:
        assert json.loads(text).keys() <= {"all", *(str(device.index) for device in devices)}
