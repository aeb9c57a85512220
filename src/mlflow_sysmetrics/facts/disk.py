"""The file system that the run works in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_sysmetrics.facts.units import gigabytes
from mlflow_sysmetrics.host import Unavailable

if TYPE_CHECKING:
    from mlflow_sysmetrics.host import Host


def read_disk(_host: Host) -> dict[str, str]:
    """Free space and size of the file system of the present working directory.

    Raises:
        Unavailable: That directory has been deleted.
    """
    try:
        directory = Path.cwd()
    except FileNotFoundError as error:
        raise Unavailable("the working directory has been deleted") from error
    usage = shutil.disk_usage(directory)
    return {
        "sys.disk_free_gb": gigabytes(usage.free),
        "sys.disk_total_gb": gigabytes(usage.total),
    }
