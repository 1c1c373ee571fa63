"""A network between a service and its Redis that fails as a test wants it to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.ports import free_port

Side = Literal["request", "reply"]


@dataclass(eq=False)
class Cut:
    """Connections that break in the middle of a command.

    Attributes:
        text: a command that holds this is meant, such as the hash of a script.
        side: `request`: the command does not arrive; `reply`: it is done, its answer is lost.
        times: how many more commands are to fail so.
        done: how many did.
    """

    text: bytes
    side: Side
    times: int
    done: int = 0


class FaultyNetwork:
    """A TCP proxy in front of a server on this machine; whole until it is told otherwise.

    Attributes:
        port: where it listens.
        delay: seconds that each piece of data takes longer on its way to the server.
        rate: bytes a second that each connection carries each way; None: any number.
        passed: bytes that it has carried.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.delay = 0.0
        self.rate: int | None = None
        self.passed = 0
        self._cuts: list[Cut] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = self._listen(free_port())
        self.port: int = self._listener.getsockname()[1]

    def url(self) -> str:
        """How Redis is reached through it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Every piece of data takes so long."""
        self.delay = seconds
        try:
            yield
        finally:
            self.delay = 0.0

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """All connections are broken, and no new ones taken."""
        self._end(self._listener)
        self.break_all()
        try:
            yield
        finally:
            self._listener = self._listen(self.port)

    @contextlib.contextmanager
    def cut(self, text: str, side: Side, times: int = 1) -> Iterator[Cut]:
        """Break the connection of commands that hold a text, so many times."""
        cut = Cut(text.encode(), side, times)
        self._cuts.append(cut)
        try:
            yield cut
        finally:
            self._cuts.remove(cut)

    def break_all(self) -> None:
        """End every connection."""
        with self._lock:
            connections = list(self._open)
        for each in connections:
            self._end(each)

    def close(self) -> None:
        """End it for good."""
        self._end(self._listener)
        self.break_all()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        # What a connection holds beside what it carries; those taken have the same.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:
                    client.close()
                    continue
                with self._lock:
                    self._open |= {client, server}
                # Set while an answer is on its way that is to be lost.
                losing = threading.Event()
                for source, target, asks in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pass_on, args=(source, target, losing, asks), daemon=True
                    ).start()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, losing: threading.Event, asks: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20 if self.rate is None else 8192):
                if (rate := self.rate) is not None:
                    time.sleep(len(data) / rate)
                if asks:
                    time.sleep(self.delay)
                    side = self._side_to_cut(data)
                    if side == "request":
                        break
                    if side == "reply":
                        losing.set()
                elif losing.is_set():
                    break
                target.sendall(data)
                self.passed += len(data)
        for each in (source, target):
            self._end(each)
            with self._lock:
                self._open.discard(each)

    def _side_to_cut(self, data: bytes) -> Side | None:
        with self._lock:
            for cut in self._cuts:
                if cut.times and cut.text in data:
                    cut.times -= 1
                    cut.done += 1
                    return cut.side
        return None

    @staticmethod
    def _end(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
