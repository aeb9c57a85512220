"""What libtpu reports of Google's TPUs, over a gRPC service in the process that uses them.

The service's messages come with the package tpu-info; it is used only where it is installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlflow_sysmetrics.accelerators.hardware import GOOGLE, read_pci_devices
from mlflow_sysmetrics.host.errors import Absent, Unavailable, import_failure
from mlflow_sysmetrics.host.files import find_paths
from mlflow_sysmetrics.sources import MOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from mlflow_sysmetrics.host.host import Host

DUTY_CYCLE = "tpu.runtime.tensorcore.dutycycle.percent"
MEMORY_USED = "tpu.runtime.hbm.memory.usage.bytes"
MEMORY_TOTAL = "tpu.runtime.hbm.memory.total.bytes"

_MODULES = (
    "grpc",
    "tpu_info.proto.tpu_metric_service_pb2",
    "tpu_info.proto.tpu_metric_service_pb2_grpc",
)

_DEFAULT_PORT = "8431"
_TIMEOUT_S = 0.5
_NOT_TPUS = ("0x01", "0x02")  # the PCI classes of storage and network: Google's VMs have theirs


def open_libtpu(host: Host) -> Libtpu:
    """The metrics services of a host's TPUs.

    Raises:
        Absent: There is no TPU.
        Unavailable: There is no tpu-info to ask the services with.
    """
    if not _has_tpu(host):
        raise Absent("no TPU")
    try:
        grpc, messages, service = map(importlib.import_module, _MODULES)
    except Exception as error:  # a broken install raises whatever it likes
        raise import_failure("tpu-info", error, "pip install tpu-info") from error
    return Libtpu(grpc, messages, service, ports(host.environ))


class Libtpu:
    """The metrics services of this host.

    Every request has a connection of its own, so that none is open while a process forks.
    """

    def __init__(
        self, grpc: ModuleType, messages: ModuleType, service: ModuleType, ports: Sequence[str]
    ) -> None:
        self._grpc = grpc
        self._messages = messages
        self._service = service
        self._ports = ports

    def read(self, metric: str) -> dict[int, float]:
        """A metric by device, from all services.

        Raises:
            Unavailable: No service answers, as while no process uses a TPU.
        """
        values: dict[int, float] = {}
        failures = []
        for port in self._ports:
            try:
                values |= self._ask(port, metric)
            except self._grpc.RpcError as error:
                failures.append(f"libtpu's metrics on port {port}: {_why(error)}")
        if failures and not values:
            raise Unavailable(failures[0])
        return values

    def _ask(self, port: str, metric: str) -> dict[int, float]:
        credentials = self._grpc.local_channel_credentials()
        with self._grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            stub = self._service.RuntimeMetricServiceStub(channel)
            request = self._messages.MetricRequest(metric_name=metric)
            return parse_response(stub.GetRuntimeMetric(request, timeout=_TIMEOUT_S))


def _has_tpu(host: Host) -> bool:
    """Whether the host has a PCI device of Google's that is neither a disk nor a network card.

    Or a device file of the driver for TPUs up to v4; upstream's are in a folder, `/dev/accel/`.
    """
    if find_paths(host.root, "dev/accel[0-9]*"):
        return True
    classes = [device.pci_class for device in read_pci_devices(host, GOOGLE)]
    return any(bool(name) and not name.startswith(_NOT_TPUS) for name in classes)


def ports(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where processes that use TPUs answer: as the variable says that makes libtpu listen."""
    named = environ.get("TPU_RUNTIME_METRICS_PORTS", "").split(",")
    return tuple(port.strip() for port in named if port.strip().isdecimal()) or (_DEFAULT_PORT,)


def parse_response(response: Any) -> dict[int, float]:  # noqa: ANN401 - a message of tpu-info's
    """Values by the number of the device; whole numbers and fractions have fields of their own.

    What cannot be an amount is left out.
    """
    values = {
        metric.attribute.value.int_attr: float(metric.gauge.as_double or metric.gauge.as_int)
        for metric in response.metric.metrics
    }
    return {device: value for device, value in values.items() if 0 <= value < MOST}


def _why(error: Any) -> str:  # noqa: ANN401 - gRPC raises what is both an error and a call
    code = getattr(error, "code", None)
    return str(code().name if callable(code) else error)
