"""The file system that the run works in."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from mlflow_sysmetrics.catalog.units import gigabytes
from mlflow_sysmetrics.host.errors import Unavailable
from mlflow_sysmetrics.host.file_helper import helper_at
from mlflow_sysmetrics.sources.disk_space import read_space

if TYPE_CHECKING:
    from mlflow_sysmetrics.host.host import Host

_ANSWER_S = 1.5
"""How long a file system that may hang is waited for; all facts together have two seconds."""


def read_disk(_host: Host) -> dict[str, str]:
    """Free space and size of the file system of the present working directory.

    Raises:
        Unavailable: That directory has been deleted.
        NoAnswerError: Its file system has not answered in time.
    """
    try:
        directory = os.getcwd()  # noqa: PTH109 - as a string
    except FileNotFoundError as error:
        raise Unavailable("the working directory has been deleted") from error
    helper = helper_at(directory)
    if helper is None:
        usage = shutil.disk_usage(directory)
        free_bytes, total_bytes = usage.free, usage.total
    else:
        _, _, free_bytes, total_bytes = helper.call_within(_ANSWER_S, read_space, directory)
    return {
        "sys.disk_free_gb": gigabytes(free_bytes),
        "sys.disk_total_gb": gigabytes(total_bytes),
    }
