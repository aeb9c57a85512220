from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_sysmetrics.accelerators.apple.collector import parse_ioreg
from mlflow_sysmetrics.sources import ParseError

COMMANDS = Path(__file__).parents[3] / "data/commands"


def test_names_are_matched_whole() -> None:
    (statistics,) = parse_ioreg((COMMANDS / "ioreg-m1-max.txt").read_text())

    assert statistics["In use system memory"] == 745570304
    assert statistics["In use system memory (driver)"] == 0
    assert statistics["Device Utilization %"] == 25
    assert "Stamps" not in statistics


def test_each_driver_reports_on_its_own_gpu() -> None:
    intel, amd = parse_ioreg((COMMANDS / "ioreg-intel-mac.txt").read_text())

    assert intel == {"Device Utilization %": 4, "Alloc system memory": 1073741824}
    assert amd["Temperature(C)"] == 58


@pytest.mark.parametrize(
    "text", ["", "\n", '+-o IOAccelerator\n    {\n      "model" = "None"\n    }\n']
)
def test_without_a_driver_that_reports_it_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_ioreg(text)
