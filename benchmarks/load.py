"""Clients that ask a server again and again, on one thread, with a request made beforehand.

What they cost is taken from the cores that the servers have too, so they do little: no library, no
thread each, an answer is looked at no further than it takes to find its end. Whatever is compared
is asked by the same clients.
"""

from __future__ import annotations

import json
import re
import select
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# The longest that all clients may be without an answer, in seconds.
PATIENCE = 120.0
PIECE_BYTES = 1 << 18
PARTS = 3


@dataclass
class Answers:
    """What clients were answered.

    Attributes:
        seconds: how long they asked.
        count: how many answers were whole by then.
        took: seconds that each answer took, those that came later too.
        first: seconds until the mark came, in each answer.
        cpu: seconds of CPU that the clients took.
    """

    seconds: float = 0.0
    count: int = 0
    took: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second; where none came in time, as many as the first one would make."""
        return self.count / self.seconds if self.count else 1 / min(self.took)

    @property
    def p50(self) -> float:
        """The median time of an answer, in seconds."""
        return statistics.median(self.took)

    @property
    def p99(self) -> float:
        """The time of the slowest answer but for the slowest hundredth, in seconds."""
        return sorted(self.took)[len(self.took) * 99 // 100]


def post(path: str, body: dict[str, Any]) -> bytes:
    """A request, as it is sent."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def gives(value: Any) -> Callable[[bytes], bool]:
    """Whether an answer's body is this value, as JSON."""
    right = b""

    def is_right(body: bytes) -> bool:
        nonlocal right
        if body != right and json.loads(body) == value:
            right = body
        return body == right

    return is_right


def load(
    port: int,
    request: bytes,
    is_right: Callable[[bytes], bool],
    clients: int = 1,
    *,
    seconds: float = 0.0,
    times: int = 1,
    mark: bytes = b"",
) -> Answers:
    """Have clients ask, each again as soon as it has its answer.

    Args:
        port: of the server.
        request: what is sent.
        is_right: whether an answer's body is.
        clients: how many there are, each with a connection.
        seconds: how long they ask, all until they are answered; 0: each asks so many times.
        times: how often each asks, where no seconds are given.
        mark: bytes in each answer whose time is to be had too.

    Raises:
        RuntimeError: an answer is wrong, broke off, or does not come.
    """
    answers = Answers()
    poll = select.epoll()
    asking: dict[int, _Client] = {}
    every = [_Client(port, request, is_right, mark, poll, asking) for _ in range(clients)]
    began, cpu = time.perf_counter(), time.process_time()
    deadline = began + seconds
    for each in every:
        each.ask()

    def is_to_ask(client: _Client, now: float) -> bool:
        answers.took.append(now - client.began)
        if mark:
            answers.first.append(client.first - client.began)
        client.asked += 1
        answers.count += not seconds or now < deadline
        return now < deadline if seconds else client.asked < times

    _take_all(poll, asking, is_to_ask)
    answers.seconds = seconds or time.perf_counter() - began
    answers.cpu = time.process_time() - cpu
    poll.close()
    return answers


def together(port: int, asked: Sequence[tuple[bytes, Callable[[bytes], bool]]]) -> list[float]:
    """Have so many clients ask at once, each for something else; the seconds that each took.

    Args:
        asked: the requests, and whether an answer's body is right.

    Raises:
        RuntimeError: an answer is wrong, broke off, or does not come.
    """
    took: list[float] = []
    poll = select.epoll()
    asking: dict[int, _Client] = {}
    for request, is_right in asked:
        _Arriving(port, request, is_right, b"", poll, asking)

    def is_to_ask(client: _Client, now: float) -> bool:
        took.append(now - client.began)
        return False

    _take_all(poll, asking, is_to_ask)
    poll.close()
    return took


def _take_all(
    poll: select.epoll, asking: dict[int, _Client], is_to_ask: Callable[[_Client, float], bool]
) -> None:
    """Take answers until nobody asks; `is_to_ask` is told of each, and says whether its client asks
    again."""
    while asking:
        ready = poll.poll(PATIENCE)
        if not ready:
            raise RuntimeError(f"{len(asking)} clients wait for an answer")
        for number, _ in ready:
            client = asking[number]
            if not client.take():
                continue
            now = time.perf_counter()
            if not client.is_right(client.body()):
                raise RuntimeError(f"a wrong answer: {bytes(client.came[:2000])!r}")
            if is_to_ask(client, now):
                client.ask()
            else:
                client.leave()


def rush(
    port: int, request: bytes, is_right: Callable[[bytes], bool], clients: int, seconds: float
) -> Answers:
    """Have clients ask for so long, in three parts, with new connections for each.

    How connections fall to the workers is chance, and makes much of the difference.
    """
    every = Answers(seconds)
    for _ in range(PARTS):
        part = load(port, request, is_right, clients, seconds=seconds / PARTS)
        every.count += part.count
        every.took += part.took
        every.cpu += part.cpu
    return every


class _Client:
    """A connection, and the answer that comes on it.

    Attributes:
        began, first: when it asked, and when the mark came.
        came: what came of its answer.
        asked: how often it was answered.
        is_right: whether an answer's body is.
    """

    def __init__(
        self,
        port: int,
        request: bytes,
        is_right: Callable[[bytes], bool],
        mark: bytes,
        poll: select.epoll,
        asking: dict[int, _Client],
    ) -> None:
        self._port, self._request, self._mark = port, request, mark
        self._poll, self._asking = poll, asking
        self.is_right = is_right
        self.asked = 0
        self._closes = False
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(self._socket, select.EPOLLIN)
        self._asking[self._socket.fileno()] = self

    def leave(self) -> None:
        """Close the connection."""
        del self._asking[self._socket.fileno()]
        self._socket.close()

    def ask(self) -> None:
        """Send the request."""
        self.began, self.first = time.perf_counter(), 0.0
        if self._closes:
            self.leave()
            self._connect()
        self._send()

    def _send(self) -> None:
        self.came = bytearray()
        self._length: int | None = None
        self._head = 0
        # It waits where the request is large: then there is one client.
        self._socket.sendall(self._request)

    def take(self) -> bool:
        """Take what has come; whether the answer is whole."""
        try:
            data = self._socket.recv(PIECE_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            if self.came:
                raise RuntimeError(f"an answer broke off: {bytes(self.came[-2000:])!r}")
            # Closed before the request was read, as a server may do with a connection it keeps.
            self.leave()
            self._connect()
            self._send()
            return False
        self.came += data
        if self._mark and not self.first and self._mark in self.came:
            self.first = time.perf_counter()
        if not self._head and not self._read_head():
            return False
        if self._length is None:
            return self.came.endswith(b"\r\n0\r\n\r\n")
        return len(self.came) >= self._head + self._length

    def _read_head(self) -> bool:
        end = self.came.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.came[: end + 2]).lower()
        if not head.startswith(b"http/1.1 200 "):
            raise RuntimeError(f"refused: {bytes(self.came[:2000])!r}")
        self._head = end + 4
        found = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
        self._length = int(found[1]) if found else None
        self._closes = b"\r\nconnection: close\r\n" in head
        return True

    def body(self) -> bytes:
        """The body of the answer, which is whole."""
        body = bytes(self.came[self._head :])
        return unchunked(body) if self._length is None else body


class _Arriving(_Client):
    """A client that arrives with many others: it waits for its connection beside them, and asks."""

    def _connect(self) -> None:
        self.began, self._connects = time.perf_counter(), True
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.connect_ex(("127.0.0.1", self._port))
        self._poll.register(self._socket, select.EPOLLOUT)
        self._asking[self._socket.fileno()] = self

    def take(self) -> bool:
        """Take what has come, if it is the answer; whether that is whole."""
        if not self._connects:
            return super().take()
        if error := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "no connection")
        self._connects = False
        self._poll.modify(self._socket, select.EPOLLIN)
        self._send()
        return False


def unchunked(body: bytes) -> bytes:
    """A body without its framing in chunks."""
    pieces, start = [], 0
    while start < len(body):
        line = body.index(b"\r\n", start)
        end = line + 2 + int(body[start:line], 16)
        pieces.append(body[line + 2 : end])
        start = end + 2
    return b"".join(pieces)
