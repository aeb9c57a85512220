from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.accelerators.nvidia.smi import parse_nvidia_smi, read_nvidia_smi
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sources import ParseError

COMMANDS = Path(__file__).parents[3] / "data/commands"
MIB = 1 << 20


def test_mixed_gpus() -> None:
    assert parse_nvidia_smi((COMMANDS / "nvidia-smi-mixed.csv").read_text()) == Inventory(
        driver="550.120",
        cuda=None,
        devices=(
            Device(0, "NVIDIA GeForce RTX 4090", 24564 * MIB, None),
            Device(1, "NVIDIA GeForce RTX 3090", 24576 * MIB, None),
        ),
    )


def test_unified_memory_is_not_reported() -> None:
    inventory = parse_nvidia_smi((COMMANDS / "nvidia-smi-gb10.csv").read_text())

    assert inventory.devices == (Device(0, "NVIDIA GB10", None, None),)


def test_no_devices() -> None:
    inventory = parse_nvidia_smi((COMMANDS / "nvidia-smi-none.txt").read_text())

    assert inventory == Inventory(driver=None, cuda=None, devices=())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        (COMMANDS / "nvidia-smi-no-driver.txt").read_text(),
        "Tesla T4, 15360\n",
        "Tesla T4, 15360, 535.54, more\n",
        "Tesla T4, 15360 MiB, 535.54\n",
        "Tesla T4, 15360, none\n",
        ", 15360, 535.54\n",
        '"Tesla T4, 15360, 535.54\n',
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="by nvidia-smi"):
        parse_nvidia_smi(text)


def test_a_hanging_command_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable = tmp_path / "nvidia-smi"
    executable.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    executable.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable, match=r"nvidia-smi did not answer within 0\.3 s"):
        read_nvidia_smi(Host(), timeout_s=0.3)
