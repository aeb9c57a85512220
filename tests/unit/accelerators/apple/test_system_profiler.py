from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_sysmetrics.accelerators.apple.system_profiler import parse_system_profiler
from mlflow_sysmetrics.accelerators.inventory import Device
from mlflow_sysmetrics.sources import ParseError

COMMANDS = Path(__file__).parents[3] / "data/commands"


@pytest.mark.parametrize(
    ("recorded", "devices"),
    [
        ("m3-max", (Device(0, "Apple M3 Max", None, None),)),
        (
            "intel-mac",
            (
                Device(0, "Intel UHD Graphics 630", None, None),
                Device(1, "AMD Radeon Pro 5500M", 4 << 30, None),
            ),
        ),
        ("virtual-machine", ()),
    ],
)
def test_gpus_of_a_mac(recorded: str, devices: tuple[Device, ...]) -> None:
    text = (COMMANDS / f"system-profiler-{recorded}.json").read_text()

    assert parse_system_profiler(text).devices == devices


@pytest.mark.parametrize(
    "text", ["", "garbage", "[]", "{}", '{"SPDisplaysDataType": [1]}', "[" * 100_000]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="system_profiler"):
        parse_system_profiler(text)
