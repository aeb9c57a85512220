"""The collectors, in the order in which they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.vendors import VENDORS
from mlflow_sysmetrics.collectors.container import open_container
from mlflow_sysmetrics.collectors.cpu import open_cpu
from mlflow_sysmetrics.collectors.disk import open_disk
from mlflow_sysmetrics.collectors.memory import open_memory
from mlflow_sysmetrics.collectors.network import open_network
from mlflow_sysmetrics.collectors.pressure import open_pressure
from mlflow_sysmetrics.collectors.process_tree import open_process_tree
from mlflow_sysmetrics.sampling.runner import PROCESS_TREE, BlockingCollector

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.collectors.contract import Collector
    from mlflow_sysmetrics.host.host import Host


COLLECTORS: tuple[tuple[str, Callable[[Host], Collector]], ...] = (
    ("cpu", open_cpu),
    ("memory", open_memory),
    ("disk", BlockingCollector(open_disk)),
    ("network", open_network),
    (PROCESS_TREE, open_process_tree),
    ("container", open_container),
    ("pressure", open_pressure),
    *(
        (vendor.name, BlockingCollector(vendor.open) if vendor.may_block else vendor.open)
        for vendor in VENDORS
    ),
)
"""Name and opener of each collector, in the order in which they are asked and shown."""
