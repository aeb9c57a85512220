"""How many requests the hosts of one job make to its server, beside those of rank 0's host.

    python benchmarks/many_hosts.py [--hosts 24] [--seconds 300] [--store STORE]

For Linux, as root, in an environment with mlflow and this package; with psycopg2 and PostgreSQL for
`--store postgresql`. A host is a UTS namespace with one rank, which only imports mlflow (some
160 MB). They reach a real MLflow server through a gate that counts. Each host takes some seconds of
CPU to start; progress goes to stderr, the table to stdout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the gate and the servers are the tests'

import sqlalchemy
from mlflow.tracking import MlflowClient

import report
from integration.gate import Gate
from integration.launcher import clean_environ
from integration.servers import PostgreSQL, ServerError, TrackingServer

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPERIMENT = "many hosts"
STARTING = 4
"""So many hosts import mlflow at the same time."""

RANK = """
import os, sys
import mlflow
print("ready", flush=True)
if os.environ["RANK"] == "0":
    with mlflow.start_run():
        sys.stdin.read()
        sys.stdout = sys.stderr  # nobody reads any more what MLflow says
else:
    sys.stdin.read()
"""

LAUNCHER = """
hostname "host-$0"
export RANK="$0" GROUP_RANK="$0"
"$@"
exit
"""
"""It stays the parent of its rank; of the environment that it began with it is no rank."""

JOINED = """
SELECT count(*) FROM latest_metrics WHERE key LIKE 'system/node_%/cpu_utilization_percentage'
AND key NOT LIKE '%/process/%'
"""


def main() -> int:
    """Measure, and print."""
    arguments = _parser().parse_args()
    try:
        measured = measure(arguments.hosts, arguments.seconds, arguments.store)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(measured, indent=2) if arguments.json else _text_of(measured))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Count the requests of the hosts of a job.")
    parser.add_argument("--hosts", type=int, default=24, help="rank 0's included")
    parser.add_argument("--seconds", type=int, default=300, help="count so long, once all joined")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--json", action="store_true", help="print JSON rather than a table")
    return parser


def measure(hosts: int, seconds: int, store: str) -> dict[str, Any]:
    """Let hosts join a run, and count what they ask then.

    Args:
        hosts: How many, rank 0's included, whose requests are not counted.
        seconds: For how long to count.
        store: What the server keeps its runs in.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        server = stack.enter_context(_server(folder, store))
        gate = stack.enter_context(Gate(server.address))
        MlflowClient(server.address).create_experiment(EXPERIMENT)
        ranks = [stack.enter_context(_rank(0, hosts, server.address, folder))]
        began_s = time.monotonic()
        for number in range(1, hosts):
            ranks.append(stack.enter_context(_rank(number, hosts, gate.address, folder)))
            if number >= STARTING:
                _wait_until_ready(ranks[number - STARTING])
        for rank in ranks[-STARTING:]:
            _wait_until_ready(rank)
        started_s = time.monotonic() - began_s
        _wait_until_joined(server.store_uri, hosts)
        joined_s = time.monotonic() - began_s
        joining = _by_endpoint(gate)
        gate.seen.clear()
        time.sleep(seconds)
        joined = _by_endpoint(gate)
        run = MlflowClient(server.address).search_runs(["1"])[0]
        listed = json.loads(run.data.tags["sys.nodes"])
    return {
        "hosts": hosts,
        "seconds": seconds,
        "started_s": round(started_s),
        "joined_s": round(joined_s),
        "joining": joining,
        "joined": joined,
        "listed": len(listed.keys() - {"all"}),
        "machine": report.machine()
        | report.versions("mlflow-skinny", "mlflow-sysmetrics")
        | {"store": store},
    }


@contextmanager
def _server(folder: Path, store: str) -> Iterator[TrackingServer]:
    with ExitStack() as stack:
        store_uri = f"sqlite:///{folder}/mlflow.db"
        if store == "postgresql":
            store_uri = stack.enter_context(PostgreSQL()).create_database("mlflow")
        yield stack.enter_context(TrackingServer(folder, store_uri))


@contextmanager
def _rank(number: int, hosts: int, address: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The rank of a host; it ends with its input."""
    variables = {
        "MLFLOW_RUN_CONTEXT_PROVIDER": "sysmetrics,sysmonitor",
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_EXPERIMENT_NAME": EXPERIMENT,
        "MLFLOW_SYSMETRICS_SPOOL_DIR": str(folder / "spool"),
        "TORCHELASTIC_RUN_ID": "many-hosts",
        "WORLD_SIZE": str(hosts),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_WORLD_SIZE": str(hosts),
    }
    launcher = ["unshare", "--uts", "sh", "-c", LAUNCHER, str(number)]
    with subprocess.Popen(
        [*launcher, sys.executable, "-c", RANK],
        cwd=folder,
        env=clean_environ() | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def _wait_until_ready(rank: subprocess.Popen[str]) -> None:
    if rank.stdout is not None:
        rank.stdout.readline()


def _wait_until_joined(store_uri: str, hosts: int) -> None:
    engine = sqlalchemy.create_engine(store_uri)
    joined = 0
    while joined < hosts:
        time.sleep(1)
        with engine.connect() as connection:
            joined = connection.execute(sqlalchemy.text(JOINED)).scalar_one()
        print(f"\r{joined} of {hosts} hosts are in the run ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    engine.dispose()


def _by_endpoint(gate: Gate) -> dict[str, int]:
    paths = (each.request.path.partition("?")[0] for each in tuple(gate.seen))
    return dict(Counter(path.partition("/mlflow/")[2] for path in paths).most_common())


def _text_of(measured: dict[str, Any]) -> str:
    hosts, seconds = measured["hosts"], measured["seconds"]
    joining, joined = measured["joining"], measured["joined"]
    others = hosts - 1
    rows = [
        (
            endpoint,
            f"{joining.get(endpoint, 0) / others:.1f}",
            f"{joined.get(endpoint, 0) / others / seconds:.4f}",
        )
        for endpoint in sorted({*joining, *joined})
    ]
    rows.append(
        (
            "all",
            f"{sum(joining.values()) / others:.1f}",
            f"{sum(joined.values()) / others / seconds:.4f}",
        )
    )
    header = ("requests of a host beside rank 0's", "until all joined", "then, a second")
    return (
        f"{report.table(header, rows)}\n\n{others} hosts beside rank 0's; the last had started"
        f" after {measured['started_s']} s, all were in the run after {measured['joined_s']} s,"
        f" and counted for {seconds} s. `sys.nodes` lists {measured['listed']}.\n\n"
        f"{report.in_one_line(measured['machine'])}"
    )


if __name__ == "__main__":
    sys.exit(main())
