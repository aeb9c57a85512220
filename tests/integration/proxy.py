"""A proxy before an MLflow server, to make the network fail at a chosen request."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Fate(Enum):
    """What becomes of a request."""

    ANSWERED = auto()
    REFUSED = auto()
    NEVER_ANSWERED = auto()


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, upstream: tuple[str, int], judge: Callable[[bytes], Fate]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.upstream = upstream
        self.judge = judge
        self.closed = threading.Event()


class _Connection(socketserver.BaseRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        with socket.create_connection(self.server.upstream) as upstream:
            answers = threading.Thread(target=_copy, args=(upstream, self.request))
            answers.start()
            self._pass_on_requests(upstream)
            for end in (upstream, self.request):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _pass_on_requests(self, upstream: socket.socket) -> None:
        for data in _received(self.request):
            fate = self.server.judge(data)
            if fate is Fate.REFUSED:
                return
            if fate is Fate.NEVER_ANSWERED:
                upstream.shutdown(socket.SHUT_RDWR)  # it would keep a worker waiting
                self.server.closed.wait()
                return
            upstream.sendall(data)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for data in _received(source):
            target.sendall(data)


def _received(source: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        yield from iter(lambda: source.recv(1 << 16), b"")


@contextlib.contextmanager
def proxied(address: str, judge: Callable[[bytes], Fate]) -> Iterator[str]:
    """Serve under another address.

    Args:
        address: Of the server, `http://127.0.0.1:5000`.
        judge: Decides on what a client sends; a request's first line is in one piece.
    """
    host, port = address.removeprefix("http://").split(":")
    with _Proxy((host, int(port)), judge) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.closed.set()
            proxy.shutdown()
            thread.join()
