from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from mlflow_sysmetrics.sources import ParseError
from mlflow_sysmetrics.sources.net_dev import InterfaceBytes, parse_net_dev

HEADINGS = "Inter-|   Receive\n face |bytes    packets\n"


def test_received_and_sent_bytes_of_each_interface() -> None:
    text = (
        f"{HEADINGS}    lo:      11    1    0    0    0     0          0         0       12 1 0 0\n"
        "eth0:1:1296211 9385 0 0 0 0 0 0 504840 19180 0 0 0 0 0 0\n"
    )

    assert parse_net_dev(text) == {
        "lo": InterfaceBytes(11, 12),
        "eth0:1": InterfaceBytes(1296211, 504840),
    }


@pytest.mark.parametrize(
    "line",
    [
        "eth0: 1 2 3",
        "eth0: x 0 0 0 0 0 0 0 1 0",
        "eth0",
        "eth0: -1 0 0 0 0 0 0 0 1 0",
        "eth0: 1296211 9385 0 0 0 0 0 0 5048",
        "\0\0",
    ],
)
def test_a_line_of_another_kind_costs_no_other_line(line: str) -> None:
    lo = "lo: 11 1 0 0 0 0 0 0 12 1 0 0 0 0 0 0\n"

    assert parse_net_dev(f"{HEADINGS}{lo}{line}") == {"lo": InterfaceBytes(11, 12)}


@pytest.mark.parametrize("text", ["", "garbage", "eth0: 1 2 3"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="net/dev"):
        parse_net_dev(text)


@pytest.mark.skipif(sys.platform != "linux", reason="the file is Linux's")
def test_the_interfaces_are_those_that_psutil_names() -> None:
    text = Path("/proc/net/dev").read_text()

    assert parse_net_dev(text).keys() == psutil.net_io_counters(pernic=True).keys()
