"""What a vendor's folder offers: what it finds on a host, and a collector of its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_sysmetrics.accelerators.inventory import NO_GPUS, Inventory
from mlflow_sysmetrics.host.errors import Absent, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_sysmetrics.collectors.contract import Collector
    from mlflow_sysmetrics.host.host import Host


@dataclass(frozen=True)
class Found:
    """What a vendor has on a host.

    Attributes:
        inventory: Its GPUs, none for what is no GPU; None where they cannot be listed.
        silence: Why this run gets no metrics; None where it gets some. `Absent` is no news.
        notes: Which devices or readings are missing, and why.
        source: Where metrics come from, if not from the vendor's usual source.
        list_failure: How the tool failed that should have listed the GPUs.
    """

    inventory: Inventory | None = NO_GPUS
    silence: Unavailable | None = None
    notes: tuple[str, ...] = ()
    source: str = ""
    list_failure: str = ""


@dataclass(frozen=True)
class Vendor:
    """One vendor, as tags, sampler and doctor use it.

    Attributes:
        name: Its collector's name, `nvidia`.
        source: Where its metrics come from, `nvml`, as `sys.gpu_metrics` shows it.
        may_block: Whether its collector may wait for seconds, and so needs a thread of its own.
        probe: Looks what there is. Raises `Absent` without such hardware, `Unavailable` where
            there is some that can neither be listed nor read.
        open: Opens the collector for this run's devices; raises the same.
    """

    name: str
    source: str
    may_block: bool
    probe: Callable[[Host], Found]
    open: Callable[[Host], Collector]


def probe_by_opening(open_collector: Callable[[Host], Collector], host: Host) -> Found:
    """The probe of devices that are no GPUs; opening their collector must start nothing."""
    try:
        open_collector(host).close()
    except Absent:
        raise
    except Unavailable as reason:
        return Found(silence=reason)
    return Found()
