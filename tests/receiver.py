"""A receiver of webhooks: a real HTTP server that notes what it is sent."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The content."""
        return json.loads(self.content)

    @property
    def id(self) -> str:
        """The header webhook-id."""
        return self.headers["webhook-id"]


def status(code: int, *headers: tuple[str, str], body: bytes = b"") -> Answer:
    """Answers with this status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for header in headers:
            handler.send_header(*header)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class Receiver:
    """Listens on a port of its own of 127.0.0.1.

    Attributes:
        answers: how the next requests are answered, one each; then with 200.
        by_path: how requests to a path are always answered.
        received: all that came, in order.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[Answer] = []
        self.by_path: dict[str, Answer] = {}
        self.received: list[Received] = []
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                received = Received(
                    self.path, {k.lower(): v for k, v in self.headers.items()}, content
                )
                with receiver._lock:
                    receiver.received.append(received)
                    given = receiver.by_path.get(self.path)
                    if given is None:
                        given = receiver.answers.pop(0) if receiver.answers else status(200)
                with contextlib.suppress(OSError):
                    given(self)

            def log_message(self, *args: Any) -> None:
                """Tests read `received`."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *args: Any) -> None:
                """A client that leaves early is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
