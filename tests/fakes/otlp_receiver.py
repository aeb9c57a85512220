"""An OTLP receiver on this machine: decodes what it gets by opentelemetry-proto, and keeps it."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Received(NamedTuple):
    """One data point, with what stands around it."""

    name: str
    unit: str
    kind: str
    """`gauge`, `cumulative` or `delta`."""
    is_monotonic: bool
    labels: Mapping[str, Any]
    resource: Mapping[str, Any]
    started_ns: int
    time_ns: int
    value: float


class OtlpReceiver:
    """What was received, and how the next requests are answered.

    Attributes:
        url: For OTEL_EXPORTER_OTLP_METRICS_ENDPOINT.
        points: All data points that were accepted, in the order in which they came.
        headers: Those of each request.
        statuses: What the next requests are answered with; 200 once they are used up.
        is_down: While set, every request is answered with 503.
        requests: Number of requests, also of those that were refused.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.points: list[Received] = []
        self.headers: list[Mapping[str, str]] = []
        self.statuses: list[int] = []
        self.is_down = False
        self.requests = 0
        self.released = threading.Event()
        self.released.set()

    @property
    def names(self) -> set[str]:
        """Names of the metrics that came."""
        return {each.name for each in self.points}

    def of(self, name: str, **labels: str) -> list[Received]:
        """The points of one metric with these labels, `_` in a label's name for a dot."""
        return [
            each
            for each in self.points
            if each.name == name
            and labels.items()
            <= {key.replace(".", "_"): v for key, v in each.labels.items()}.items()
        ]

    def hang(self) -> None:
        """Answer no request until `release`."""
        self.released.clear()

    def release(self) -> None:
        """Answer again."""
        self.released.set()

    def answer(self, headers: Mapping[str, str], content: bytes) -> int:
        self.requests += 1
        self.headers.append(headers)
        self.released.wait()
        status = 503 if self.is_down else self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            if headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            self.points += decoded(content)
        return status


def decoded(content: bytes) -> list[Received]:
    """The data points of a request."""
    points = []
    for of_resource in ExportMetricsServiceRequest.FromString(content).resource_metrics:
        resource = _attributes(of_resource.resource.attributes)
        for scope in of_resource.scope_metrics:
            for metric in scope.metrics:
                of_kind = getattr(metric, metric.WhichOneof("data"))
                points += [
                    Received(
                        metric.name,
                        metric.unit,
                        _kind(metric),
                        metric.sum.is_monotonic,
                        _attributes(point.attributes),
                        resource,
                        point.start_time_unix_nano,
                        point.time_unix_nano,
                        getattr(point, point.WhichOneof("value")),
                    )
                    for point in of_kind.data_points
                ]
    return points


def _kind(metric: Any) -> str:  # noqa: ANN401 - a message of protobuf
    if not metric.HasField("sum"):
        return str(metric.WhichOneof("data"))
    name: str = AggregationTemporality.Name(metric.sum.aggregation_temporality)
    return name.removeprefix("AGGREGATION_TEMPORALITY_").lower()


def _attributes(pairs: Any) -> dict[str, Any]:  # noqa: ANN401 - a message of protobuf
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}


@contextmanager
def running_receiver() -> Iterator[OtlpReceiver]:
    """Run it in threads of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.answer(dict(self.headers), content)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base's
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base's
            """A client that hung up is none."""

    with Server(("127.0.0.1", 0), Handler) as http:
        receiver = OtlpReceiver(f"http://127.0.0.1:{http.server_port}/v1/metrics")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.release()
            http.shutdown()
            thread.join()
