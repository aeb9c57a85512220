from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.accelerators.windows.adapters import parse_win32_video
from mlflow_sysmetrics.sources import ParseError

COMMANDS = Path(__file__).parents[3] / "data/commands"
NO_GPU = Inventory(driver=None, cuda=None, devices=())


def test_one_adapter_is_an_object() -> None:
    assert parse_win32_video(_recorded("one")) == Inventory(
        driver="31.0.15.3699", cuda=None, devices=(Device(0, "NVIDIA RTX A4000", None, None),)
    )


def test_of_several_the_virtual_ones_are_left_out() -> None:
    assert parse_win32_video(_recorded("laptop")) == Inventory(
        driver=None,
        cuda=None,
        devices=(
            Device(0, "Intel(R) Iris(R) Xe Graphics", None, None),
            Device(1, "NVIDIA GeForce RTX 3060 Laptop GPU", None, None),
        ),
    )


@pytest.mark.parametrize("text", [pytest.param("\r\n", id="no adapter"), "[]"])
def test_no_adapter_is_no_gpu(text: str) -> None:
    assert parse_win32_video(text) == NO_GPU


def test_a_server_without_a_driver_has_no_gpu() -> None:
    assert parse_win32_video(_recorded("server")) == NO_GPU


@pytest.mark.parametrize(
    "text", ["Get-CimInstance : Access denied", "7", '{"Name": null}', '[{"AdapterRAM": 1}]']
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="Win32_VideoController"):
        parse_win32_video(text)


def _recorded(name: str) -> str:
    return (COMMANDS / f"win32-video-{name}.json").read_text()
