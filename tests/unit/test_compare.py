"""The parts of `benchmarks/compare.py` that measure."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from _environment import Environment
from comparison.contenders import Contender, contenders
from comparison.lab import Row, in_turns
from comparison.loop import stalls_of_loop
from comparison.relay import RequestCounter, relays_to
from comparison.report import table
from comparison.worker import SESSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

POST = b"POST /a HTTP/1.1\r\nHost: x\r\ncontent-length: 7\r\n\r\nGET / \n"
GET = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("piece", [1, 3, 10, 1000])
def test_requests_are_counted_however_they_are_cut_up(piece: int) -> None:
    counter = RequestCounter()
    sent = POST + GET + POST + GET

    new = [counter.feed(sent[begin : begin + piece]) for begin in range(0, len(sent), piece)]

    assert counter.count == sum(new) == 4


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"yes")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as found:
        found.daemon_threads = True
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()
        thread.join()


def test_a_relay_counts_and_can_be_cut_and_mended(server: str) -> None:
    with relays_to(server) as relays, relays.relay() as relay:
        connection = http.client.HTTPConnection(relay.address.removeprefix("http://"), timeout=20)

        def ask() -> bytes:
            connection.request("GET", "/")
            return connection.getresponse().read()

        assert [ask(), ask()] == [b"yes", b"yes"]
        assert relay.requests == 2
        before = relay.transferred_bytes
        assert before > 2 * len(b"GET / HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\nyes")

        relay.cut()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            ask()
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            ask()
        assert relay.transferred_bytes == before

        relay.connect()
        connection.close()
        assert ask() == b"yes"
        assert relay.requests == 3
        connection.close()


def test_a_loop_notices_who_takes_the_interpreter_from_it() -> None:
    ends = threading.Event()

    def be_busy() -> None:
        while not ends.is_set():
            sum(range(10_000))

    thread = threading.Thread(target=be_busy)
    thread.start()
    # It lasts until the interpreter's switch interval, 5 ms, is over.
    while max(stalls_of_loop(0.1), default=0.0) <= 0.002:  # a host under load gives no turn at all
        pass
    ends.set()
    thread.join()


def test_medians_and_ratios() -> None:
    row = Row("it", "ms", {"bare": [1.0, 2.0, 9.0], "ours": [3.0], "old": []}, base="bare")

    assert row.medians() == {"bare": 2.0, "ours": 3.0}
    assert row.ratios() == {"bare": 1.0, "ours": 1.5}
    assert Row("it", "", {"ours": [3.0]}, base="bare").ratios() == {}


def test_a_difference_is_told_only_where_the_rounds_do_not_overlap() -> None:
    values = {"bare": [1.0, 2.0], "old": [2.0, 4.0], "ours": [3.0, 4.0]}
    nowhere = Environment(Path(), ())
    columns = [Contender(name, name.title(), nowhere) for name in values]
    row = Row("it", "ms", values, base="bare", ranges=True)

    assert row.told_apart() == {"ours"}
    cells = table([row], columns).splitlines()[2].strip("|").split("|")
    assert [cell.strip() for cell in cells[1:]] == [
        "1.50 (1.00-2.00)",
        "3.00 (2.00-4.00) ~",
        "3.50 (3.00-4.00)",
    ]


def test_the_table_has_a_column_for_each_and_a_dash_where_nothing_was_measured() -> None:
    nowhere = Environment(Path(), ())
    columns = [Contender(name, name.title(), nowhere) for name in ("bare", "old", "ours")]
    rows = [Row("it", "ms", {"bare": [123.4], "ours": [2.468]}, base="bare")]

    lines = table(rows, columns).splitlines()

    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[::2]] == [
        ["", "Bare", "Old", "Ours"],
        ["it (ms)", "123", "-", "2.47 (0.02x)"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_everyone_comes_first_in_turn() -> None:
    assert [in_turns("abc", number)[0] for number in range(4)] == list("abca")


def test_a_worker_obeys(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
    worker = subprocess.Popen(
        [sys.executable, "-m", "comparison.worker", "bare"],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(BENCHMARKS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        orders: list[dict[str, Any]] = [
            {"do": "burden", "children": 2},
            {"do": "cpu_s"},
            {"do": "open", "uri": f"file://{tmp_path}/runs", "interval_s": 1.0},
            {"do": "cpu_s"},
            {"do": "close"},
            {"do": "open_and_close", "uri": f"file://{tmp_path}/runs"},
            {"do": "private_bytes"},
        ]
        answers, _ = worker.communicate("".join(f"{json.dumps(each)}\n" for each in orders), 100)

    _, before_s, opened, after_s, closed_s, (took_s, used_s), private_bytes = map(
        json.loads, answers.splitlines()
    )
    assert worker.returncode == 0
    assert list((tmp_path / "runs").glob(f"*/{opened['run_id']}"))
    assert 0 < before_s < after_s
    assert min(opened["took_s"], closed_s, took_s, used_s) > 0
    assert private_bytes > 10**7


def test_subjects_are_listed_and_every_contender_can_be_played() -> None:
    listed = subprocess.run(
        [sys.executable, BENCHMARKS / "compare.py", "--list"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = {line.split()[0] for line in listed.splitlines()}

    assert names == {"sample", "open", "import", "stalls", "end", "outage", "memory"}
    assert {each.name for each in contenders()} <= SESSIONS.keys()
