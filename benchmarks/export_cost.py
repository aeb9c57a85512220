"""What exporting a sample costs, in CPU time: in the sampler's thread, and in all threads.

    python benchmarks/export_cost.py [TARGET…] [--samples N] [--json]

For Linux, in an environment with this package and its extras. A target is one of
MLFLOW_SYSMETRICS_EXPORT; by default all kinds, OTLP to a receiver of another process. Each sample
is a real one of this host, and each is handed on before the next, as at the usual interval of ten
seconds; what sampling itself costs is not in it. Nobody scrapes meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import report
from mlflow_sysmetrics.export import otlp
from mlflow_sysmetrics.export.contract import ExportedRun
from mlflow_sysmetrics.export.exports import Exports
from mlflow_sysmetrics.host.clock import Clock
from mlflow_sysmetrics.host.host import Host
from mlflow_sysmetrics.sampling.runners import CollectorSet
from mlflow_sysmetrics.sampling.sink import Sink
from mlflow_sysmetrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_sysmetrics.sampling.sink import Record

_RECEIVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
_WAIT_S = 10.0


class Cost(NamedTuple):
    """CPU time of one sample, the median.

    Attributes:
        sampler_ms: In the thread that samples.
        all_ms: In all threads.
    """

    sampler_ms: float
    all_ms: float


class _Nowhere(Sink):
    """The sink of a run that logs nothing."""

    def put(self, record: Record) -> None:
        """Drop it."""

    def end(self) -> None:
        """Nothing is to be done."""

    def close(self, timeout_s: float) -> None:
        """Nothing is to be waited for."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    otlp.PACE_S = 0.0  # each sample is a request, as with an interval of ten seconds
    with tempfile.TemporaryDirectory() as folder, _receiver():
        targets = options.targets or ["prometheus", f"textfile:{folder}", "otlp"]
        costs = {each.partition(":")[0]: _cost(each, options.samples) for each in targets}
    if options.json:
        print(json.dumps({target: cost._asdict() for target, cost in costs.items()}))
        return
    header = ("Export", "Sampler's thread, ms", "All threads, ms")
    rows = [
        (target, f"{cost.sampler_ms:.2f}", f"{cost.all_ms:.2f}") for target, cost in costs.items()
    ]
    measured = {**report.machine(), **report.versions("mlflow-sysmetrics")}
    print(f"{report.table(header, rows)}\n\n```text\n{report.in_one_line(measured)}\n```")


def _cost(target: str, samples: int) -> Cost:
    host = Host(clock=Clock())
    collectors = CollectorSet(host)
    run = ExportedRun("0" * 32, Settings(export=(target,)), lambda: {"experiment": "cost"})
    sink = Exports(host.clock).open(run, target, _Nowhere())
    in_sampler, in_all = [], []
    for _ in range(samples + 1):
        sample = collectors.collect()
        began_s, thread_began_s = time.process_time(), time.thread_time()
        sink.take(sample)
        in_sampler.append(time.thread_time() - thread_began_s)
        if target == "otlp":
            _wait_until_sent(sink)
        in_all.append(time.process_time() - began_s)
    sink.close(_WAIT_S)
    # The first one opens files and imports libraries.
    return Cost(statistics.median(in_sampler[1:]) * 1e3, statistics.median(in_all[1:]) * 1e3)


def _wait_until_sent(sink: Sink) -> None:
    for exporter in sink._exporters.values():  # type: ignore[attr-defined] # noqa: SLF001 - of an open run there is no other way
        exporter.wait(_WAIT_S)


@contextmanager
def _receiver() -> Iterator[None]:
    """A receiver of OTLP in a process of its own, named by the variables."""
    command = [sys.executable, "-c", _RECEIVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - it is piped
        port = process.stdout.readline().strip()
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    main()
