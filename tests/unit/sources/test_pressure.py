from __future__ import annotations

import pytest

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.pressure import parse_pressure

SOME = "some avg10=0.24 avg60=0.39 avg300=0.16 total=7655097\n"
FULL = "full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n"


def test_the_totals_are_read() -> None:
    assert parse_pressure(SOME + FULL) == {"some": 7655097, "full": 12}


def test_before_linux_5_13_the_cpu_has_no_full() -> None:
    assert parse_pressure(SOME) == {"some": 7655097}


def test_a_line_that_is_garbled_costs_no_other() -> None:
    assert parse_pressure("some avg10=\n" + FULL) == {"full": 12}


@pytest.mark.parametrize("text", ["", "some avg10=0.24 total=\n"])
def test_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ParseError):
        parse_pressure(text)
