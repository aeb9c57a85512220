from __future__ import annotations

import pytest

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.cpu_times import CpuTimes, parse_cpu_times, parse_load
from mlflow_sysmetrics.sources.proc_pid import CLOCK_TICKS

REST = "cpu0 1 2 3 4 5 6 7 8 9 10\nintr 25\nctxt 7\n"


@pytest.mark.parametrize(
    ("line", "busy", "total"),
    [
        pytest.param("cpu  10 1 5 80 4 1 2 3 0 0", 22, 106, id="a machine"),
        # Of the 10 + 1 ticks of user and nice, 6 + 1 were spent in virtual machines.
        pytest.param("cpu  10 1 5 80 4 1 2 3 6 1", 22, 106, id="a hypervisor"),
        pytest.param("cpu  10 1 5 80", 16, 96, id="a kernel that tells little"),
    ],
)
def test_waiting_is_not_busy_and_guests_count_once(line: str, busy: int, total: int) -> None:
    assert parse_cpu_times(f"{line}\n{REST}") == CpuTimes(busy / CLOCK_TICKS, total / CLOCK_TICKS)


@pytest.mark.parametrize("text", ["", REST, "cpu  10 1\n", "cpu  10 -1 5 80 4\n", "cpu  a b c d\n"])
def test_other_text_is_no_time(text: str) -> None:
    with pytest.raises(ParseError, match="/proc/stat"):
        parse_cpu_times(text)


def test_the_load_is_that_of_the_last_minute() -> None:
    assert parse_load("1.50 2.50 3.50 1/80 11206\n") == 1.5


@pytest.mark.parametrize("text", ["", "nan 0 0\n", "-1.00 0.1 0.1\n", "9999999.00 0.1 0.1 1/8 9\n"])
def test_other_text_is_no_load(text: str) -> None:
    with pytest.raises(ParseError, match="loadavg"):
        parse_load(text)
