"""HTTP byte by byte: what no client library would send, and exactly what comes back."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from http.client import parse_headers
from typing import Any, BinaryIO

from tests.servers import PATIENCE, Server


@dataclass
class Answer:
    """A response; the names of the headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        """Why the request was refused."""
        assert self.headers["content-type"] == "application/json", self
        document = json.loads(self.body)
        assert list(document) == ["detail"], self
        assert isinstance(document["detail"], str), self
        return document["detail"]


def request(method: str, path: str, *headers: str, body: bytes | None = None) -> bytes:
    """A request as it is sent; a body gets its Content-Length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: runwait", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def run(assistant_id: str, *headers: str, **fields: Any) -> bytes:
    """POST /runs/wait as it is sent."""
    body = json.dumps({"assistant_id": assistant_id, "input": {}, **fields}).encode()
    return request("POST", "/runs/wait", *headers, body=body)


def chunked(*chunks: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (*chunks, b""))


def read(file: BinaryIO, *, head: bool = False) -> Answer:
    """The next response in what a server sent."""
    line = file.readline()
    assert line.startswith(b"HTTP/1."), line
    status = int(line.split()[1])
    headers = {name.lower(): value for name, value in parse_headers(file).items()}
    return Answer(status, headers, b"" if head or status < 200 else _body(file, headers))


def _body(file: BinaryIO, headers: dict[str, str]) -> bytes:
    if "content-length" in headers:
        return _exactly(file, int(headers["content-length"]))
    if headers.get("transfer-encoding") != "chunked":
        return file.read()
    body = b""
    while size := int(file.readline(), 16):
        body += _exactly(file, size)
        assert _exactly(file, 2) == b"\r\n"
    assert _exactly(file, 2) == b"\r\n"
    return body


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    assert len(data) == size, f"{len(data)} of {size} bytes"
    return data


class Wire:
    """A connection to a server."""

    def __init__(self, server: Server, *, receive_buffer: int | None = None) -> None:
        """Connect; `receive_buffer` is in bytes."""
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", server.port))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> Wire:
        """Send this."""
        self.socket.sendall(data)
        return self

    def end(self) -> Wire:
        """Send nothing more."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def answer(self, *, head: bool = False) -> Answer:
        """The next response; `head` says that it has no body whatever its headers say."""
        return read(self._file, head=head)

    def closed(self) -> bool:
        """Whether the server closes the connection, and sends nothing before; waits for it."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def everything(self) -> bytes:
        """All that the server sends until it closes the connection."""
        return self._file.read()


def exchange(server: Server, data: bytes) -> Answer:
    """The answer to this, on a connection of its own."""
    with Wire(server) as wire:
        return wire.send(data).answer()


def alive(server: Server) -> bool:
    """Whether new clients are served: /ok, and a run."""
    with Wire(server) as wire:
        wire.send(request("GET", "/ok") + run("echo", input={"value": 1}))
        return wire.answer().status == 200 and json.loads(wire.answer().body) == {"value": 1}
