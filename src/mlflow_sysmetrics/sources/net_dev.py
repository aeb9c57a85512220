"""Bytes that network interfaces received and sent, from Linux's `/proc/net/dev`."""

from __future__ import annotations

import re
from typing import NamedTuple

from mlflow_sysmetrics.sources import MOST, ParseError

# An alias has a colon in its name.
_LINE = re.compile(
    r"^ *(\S[^/\n]{0,63}?): *([0-9]{1,20})(?: +[0-9]+){7} +([0-9]{1,20}) +[0-9]", re.MULTILINE
)


class InterfaceBytes(NamedTuple):
    """What one interface has transferred since it appeared."""

    received: int
    sent: int


def parse_net_dev(text: str) -> dict[str, InterfaceBytes]:
    """Transferred bytes by interface, of this process's network namespace.

    After two lines of headings a line is `  eth0: 1296211 9385 0 0 0 0 0 0 504840 19180 …`: the
    first number is bytes received, the ninth bytes sent. Other lines are passed over.

    Raises:
        ParseError: There are neither headings nor a line that looks so.
    """
    interfaces: dict[str, InterfaceBytes] = {}
    for name, received, sent in _LINE.findall(text):
        counters = InterfaceBytes(int(received), int(sent))
        if max(counters) < MOST:
            interfaces.setdefault(name, counters)
    if not interfaces and "|" not in text:
        raise ParseError("/proc/net/dev", text)
    return interfaces
