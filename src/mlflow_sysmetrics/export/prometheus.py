"""The exporter that Prometheus scrapes: a port of this process, with the newest values."""

from __future__ import annotations

import errno
import os
import socket
import threading
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import TYPE_CHECKING, NamedTuple, cast

from mlflow_sysmetrics.catalog.exported import prometheus_label
from mlflow_sysmetrics.catalog.exports import LAST_UPDATE
from mlflow_sysmetrics.export.contract import CannotExport, Exporter, require_extra
from mlflow_sysmetrics.export.latest import RunValues
from mlflow_sysmetrics.host.forks import CallLock, ForkOrder, hold_during_fork
from mlflow_sysmetrics.host.threads import start_thread
from mlflow_sysmetrics.log import logger
from mlflow_sysmetrics.settings import PROMETHEUS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

    from mlflow_sysmetrics.export.contract import ExportedRun, Sample

_DEFAULT_PORTS = range(9464, 9480)
"""From the one that OpenTelemetry's exporters have by default."""

_LOOPBACK = "127.0.0.1"
_CLIENT_TIMEOUT_S = 2.0
"""One request is answered after the other: who stalls must not keep Prometheus out for long."""

_LOOK_TIMEOUT_S = 0.5
_MAX_PAGE = 16 << 20


class Address(NamedTuple):
    """Where to listen: the first free one of some ports."""

    host: str
    ports: range

    @classmethod
    def of(cls, target: str) -> Address:
        """That of a target, such as `prometheus:0.0.0.0:9464-9479`."""
        match = PROMETHEUS.fullmatch(target)
        if match is None or not match["first"]:
            return cls(_LOOPBACK, _DEFAULT_PORTS)
        first = int(match["first"])
        host = (match["host"] or _LOOPBACK).strip("[]")
        return cls(host, range(first, int(match["last"] or first) + 1))

    @property
    def shown(self) -> str:
        """As a person reads it: `127.0.0.1:9464 to 9479`."""
        return _shown(self.host, self.ports[0]) + (
            f" to {self.ports[-1]}" if len(self.ports) > 1 else ""
        )


def open_prometheus(target: str) -> PrometheusExporter:
    """Listen.

    Raises:
        CannotExport: The extra is not installed, or it cannot listen there.
    """
    require_extra("prometheus", "prometheus_client")
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - an extra

    return PrometheusExporter(Address.of(target), CollectorRegistry(auto_describe=False))


class PrometheusExporter(Exporter):
    """See `Exporter` for its methods.

    Args:
        address: Where to listen.
        registry: A new one of prometheus_client.

    Attributes:
        busy: Held while a scrape is answered; a fork waits for it.
        port: Where it listens.
    """

    def __init__(self, address: Address, registry: CollectorRegistry) -> None:
        self.busy = CallLock()
        self._lock = threading.Lock()
        self._runs: dict[ExportedRun, RunValues] = {}
        self._registry = registry
        registry.register(_NewestValues(self))
        self._server = _listen(address, self)
        self.port: int = self._server.server_address[1]
        hold_during_fork(self, ForkOrder.EXPORTER)
        start_thread("prometheus", self._server.serve_forever, _SHUT_DOWN_S)
        logger.info("Prometheus may scrape http://%s/metrics", _shown(address.host, self.port))

    def put(self, sample: Sample) -> None:
        """Keep its values for the next scrape."""
        with self._lock:
            values = self._runs.get(sample.run)
            if values is None:
                self._runs[sample.run] = RunValues(sample)
            else:
                values.put(sample)

    def end(self, run: ExportedRun) -> None:
        """Forget the run."""
        with self._lock:
            self._runs.pop(run, None)

    def wait(self, timeout_s: float) -> None:
        """There is nothing to wait for: who does not scrape in time has no last values."""

    def after_fork_in_child(self) -> None:
        """Close the child's copy of the port, which else stays taken as long as the child lives."""
        self._server.socket.close()

    def page(self, accept: str) -> tuple[bytes, str]:
        """What a scrape gets, and its content type.

        Args:
            accept: The request's header of that name.
        """
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - an extra

        with self.busy:
            encode, content_type = choose_encoder(accept)
            return encode(self._registry), content_type

    def metrics(self) -> Iterator[Metric]:
        """The newest values, as prometheus_client has them."""
        from prometheus_client.core import Metric  # noqa: PLC0415 - an extra

        with self._lock:
            series = [each for values in self._runs.values() for each in values.series()]
        metrics: dict[str, Metric] = {}
        for instrument, attributes, value in series:
            name = instrument.prometheus_name
            metric = metrics.get(name)
            if metric is None:
                metric = metrics[name] = Metric(
                    name.removesuffix("_total"), instrument.description, instrument.prometheus_type
                )
            labels = {prometheus_label(attribute): text for attribute, text in attributes}
            metric.add_sample(name, labels, value)
        yield from metrics.values()


class _NewestValues:
    """A collector of prometheus_client."""

    def __init__(self, exporter: PrometheusExporter) -> None:
        self._exporter = exporter

    def collect(self) -> Iterator[Metric]:
        return self._exporter.metrics()


_SHUT_DOWN_S = 3600.0  # how often the server looks whether it is to end, which it never is


class _Server(TCPServer):
    """Answers scrapes, one after the other."""

    allow_reuse_address = os.name == "posix"  # on Windows two processes could have one port
    request_queue_size = 16

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
        self.address_family = family
        super().__init__(cast("tuple[str, int]", address), _Handler)
        self.exporter: PrometheusExporter

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base's
        """A client that went away; the base prints to the user's stderr."""
        logger.debug("a scrape failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] not in {"/", "/metrics"}:
            self.send_error(404)
            return
        exporter = cast("_Server", self.server).exporter
        page, content_type = exporter.page(self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Print nothing to the user's stderr."""


def _listen(address: Address, exporter: PrometheusExporter) -> _Server:
    """Take the first free port.

    Raises:
        CannotExport: There is none.
    """
    for port in address.ports:
        try:
            family, *_, at = socket.getaddrinfo(
                address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            server = _Server(family, at)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CannotExport(
                    f"it cannot listen on {_shown(address.host, port)}: {error.strerror}; name an "
                    "address of this host and a port from 1024 on"
                ) from error
        else:
            server.exporter = exporter
            return server
    raise CannotExport(
        f"{address.shown}: taken by other programs; name another port, or a range of them, such as "
        f"prometheus:{address.ports[0]}-{address.ports[0] + 15}"
    )


def describe_prometheus(target: str) -> str:
    """Who listens on the ports of a target, and where the next run would; for a person to read.

    Raises:
        CannotExport: No run could be exported to it now.
    """
    require_extra("prometheus", "prometheus_client")
    address = Address.of(target)
    free, said = None, []
    for port in address.ports:
        found = _who_listens(address, port)
        if found:
            said.append(f"{_shown(address.host, port)} has {found}")
        elif free is None:
            free = _shown(address.host, port)
    if free is None:
        raise CannotExport(f"no port is free: {', '.join(said)}; name another one")
    return ", ".join([*said, f"the next process would listen on {free}"])


def _who_listens(address: Address, port: int) -> str:
    """What is on a port; empty where it is free."""
    host = {"0.0.0.0": _LOOPBACK, "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared
    connection = HTTPConnection(host, port, timeout=_LOOK_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read(_MAX_PAGE).decode("utf-8", "replace")
    except ConnectionRefusedError:
        return ""
    except (OSError, HTTPException):
        return "another program"
    finally:
        connection.close()
    if f"\n{LAST_UPDATE.prometheus_name}{{" not in page:
        return "another program" if "mlflow_sysmetrics" not in page else "no open run"
    runs = page.count(f"\n{LAST_UPDATE.prometheus_name}{{")
    return f"{runs} open run{'s' if runs > 1 else ''} of this plugin"


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
