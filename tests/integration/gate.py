"""A gate before a tracking server, to make the network and the server fail as they do in life."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from integration.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Pass:
    """The request is passed on.

    Attributes:
        after_s: For how long it is held before; infinity for a server that takes and never acts.
        answer_after_s: For how long the answer is held.
    """

    after_s: float = 0.0
    answer_after_s: float = 0.0


@dataclass(frozen=True)
class Answer:
    """The gate itself answers.

    Attributes:
        status: HTTP's.
        retry_after_s: What the header `Retry-After` asks for; None for no such header.
        error_code: MLflow's.
    """

    status: int
    retry_after_s: int | None = None
    error_code: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


@dataclass(frozen=True)
class Reset:
    """The connection is reset."""


Fate: TypeAlias = Pass | Answer | Reset
"""What becomes of a request."""

PASS = Pass()
HANG = Pass(after_s=math.inf)
RESET = Reset()


class Request(NamedTuple):
    """What a judge knows of a request: its path, and whose token it carries."""

    path: str
    token: str

    @property
    def sends_metrics(self) -> bool:
        """Whether it does; nobody but a monitor sends any here."""
        return "/runs/log-batch" in self.path


Judge: TypeAlias = "Callable[[Request], Fate]"


def everything(fate: Fate) -> Judge:
    """The same fate for all requests."""
    return lambda _request: fate


def sending(fate: Fate) -> Judge:
    """A fate for the requests that send metrics; the others pass."""
    return lambda request: fate if request.sends_metrics else PASS


def sending_in_turn(*fates: Fate) -> Judge:
    """A fate for each of the next requests that send metrics; all others pass."""
    left = list(fates)
    return lambda request: left.pop(0) if left and request.sends_metrics else PASS


class Seen(NamedTuple):
    """A request that came to the gate, when it came, and its fate."""

    time_s: float
    request: Request
    fate: Fate


class Gate:
    """A context manager that serves a server's requests under another address.

    Args:
        address: Of the server, `http://127.0.0.1:5000`.

    Attributes:
        address: Under which the gate is to be reached.
        judge: Decides what becomes of a request; may be set at any time.
        seen: All requests so far.
    """

    def __init__(self, address: str) -> None:
        self.upstream = address.removeprefix("http://")
        self.judge: Judge = everything(PASS)
        self.seen: list[Seen] = []
        self._server = _Server(self)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._ended = False
        self._is_open = threading.Event()
        self._is_open.set()
        self._thread = threading.Thread(target=self._admit, name="gate")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended = True
        self.shut()
        self._is_open.set()
        self._thread.join()
        self._server.server_close()

    def shut(self) -> None:
        """Refuse connections, as a host does whose server is gone, and cut those that stand."""
        self._is_open.clear()
        # Linux: the socket no longer listens, but nobody else can have its port meanwhile.
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.cut_all()

    def open(self) -> None:
        """Accept connections again."""
        self._server.socket.listen(128)
        self._is_open.set()

    def _admit(self) -> None:
        while True:
            self._is_open.wait()
            if self._ended:
                return
            with contextlib.suppress(OSError):  # it was shut meanwhile
                connection, address = self._server.socket.accept()
                self._server.process_request(connection, address)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, gate: Gate) -> None:
        # A port that the kernel chose as the socket was bound would go when it does not listen.
        super().__init__(("127.0.0.1", free_port()), _Connection)
        self.gate = gate
        self.connections: set[_Connection] = set()

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override] # as TCP has
        request.close()  # the base class would say an orderly farewell first, also where it resets

    def cut_all(self) -> None:
        for connection in tuple(self.connections):
            connection.cut()


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # clients keep their connections

    def setup(self) -> None:
        super().setup()
        self.is_cut = threading.Event()
        self.upstream = http.client.HTTPConnection(self.server.gate.upstream)
        self.server.connections.add(self)

    def handle(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):  # either end may go away
            super().handle()

    def finish(self) -> None:
        self.server.connections.discard(self)
        self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def cut(self) -> None:
        self.is_cut.set()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:  # the name that the base class calls
        gate = self.server.gate
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        request = Request(self.path, token)
        fate = gate.judge(request)
        gate.seen.append(Seen(time.monotonic(), request, fate))
        if isinstance(fate, Pass):
            self._pass_on(fate, body)
        elif isinstance(fate, Answer):
            error = {"error_code": fate.error_code, "message": "the gate"}
            self._answer(fate.status, fate.headers, json.dumps(error).encode())
        else:
            self._reset()

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815 - as above

    def _pass_on(self, fate: Pass, body: bytes) -> None:
        if self._cut_within(fate.after_s):
            return
        self.upstream.close()  # the server ends what was idle for five seconds, perhaps right now
        self.upstream.request(self.command, self.path, body, dict(self.headers))
        answer = self.upstream.getresponse()
        content = answer.read()
        if not self._cut_within(fate.answer_after_s):
            self._answer(answer.status, dict(answer.getheaders()), content)

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        without_lingering = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, without_lingering)
        self.close_connection = True

    def _cut_within(self, held_s: float) -> bool:
        """Wait; whether the connection was cut meanwhile."""
        cut = self.is_cut.wait(None if math.isinf(held_s) else held_s)
        self.close_connection |= cut
        return cut

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""
