"""`nvidia-smi`, for the case that NVML itself cannot be asked."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.inventory import Device, Inventory
from mlflow_sysmetrics.host.commands import COMMAND_TIMEOUT_S
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.sources import ParseError

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_QUERY = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,driver_version",
    "--format=csv,noheader,nounits",
)

_NO_DEVICES = "No devices were found"
_NO_DEVICES_STATUS = "exit status 6"

_NOT_REPORTED = re.compile(r"\[.*\]|N/A|Not Supported")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)+")
_MIB = re.compile(r"[0-9]{1,9}")


def read_nvidia_smi(host: Host, timeout_s: float = COMMAND_TIMEOUT_S) -> Inventory:
    """The GPUs that `nvidia-smi` lists.

    Raises:
        Unavailable: It is not installed, failed, or took too long.
        ParseError: What it printed is no such list.
    """
    try:
        output = host.run(_QUERY, timeout_s)
    except Unavailable as failure:
        if str(failure).endswith(_NO_DEVICES_STATUS):
            return Inventory(driver=None, cuda=None, devices=())
        raise
    return parse_nvidia_smi(output)


def parse_nvidia_smi(text: str) -> Inventory:
    """One line a GPU: name, memory in MiB, driver.

        NVIDIA H100 80GB HBM3, 81559, 560.35.03

    `[N/A]` stands for what a GPU does not report. A host without a GPU prints `No devices were
    found`.

    Raises:
        ParseError: Something else.
    """
    if text.strip() == _NO_DEVICES:
        return Inventory(driver=None, cuda=None, devices=())
    devices: list[Device] = []
    driver = None
    for line in filter(None, map(str.strip, text.splitlines())):
        name, memory_mib, version = _fields(line)
        memory_bytes = int(memory_mib) << 20 if memory_mib else None
        devices.append(Device(len(devices), name, memory_bytes, uuid=None))
        driver = version
    if not devices:
        raise ParseError("a list of GPUs by nvidia-smi", text)
    return Inventory(driver, cuda=None, devices=tuple(devices))


def _fields(line: str) -> tuple[str, str | None, str | None]:
    try:
        name, *numbers = next(csv.reader([line], skipinitialspace=True))
        memory_mib, version = (
            None if _NOT_REPORTED.fullmatch(value) else value for value in numbers
        )
    except (ValueError, csv.Error) as error:
        raise ParseError("a GPU by nvidia-smi", line) from error
    memory_is_odd = memory_mib is not None and not _MIB.fullmatch(memory_mib)
    version_is_odd = version is not None and not _VERSION.fullmatch(version)
    if not name or memory_is_odd or version_is_odd:
        raise ParseError("a GPU by nvidia-smi", line)
    return name, memory_mib, version
