"""Clients that take their time hold up nobody else, and are dropped in the end."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.calls import FOREVER, UNLIMITED, Gate
from tests.e2e.wire import Wire, alive, chunked, request, run
from tests.servers import (
    COMMAND,
    PATIENCE,
    PROJECTS,
    Server,
    ServerFactory,
    eventually,
)

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
WAITERS_MAX = 4
REQUEST_TIMEOUT_SECONDS = 1
# More than a process has threads (see RESERVED_THREADS in config/settings.py).
CROWD = 100

CHUNKED = "Transfer-Encoding: chunked"
BEGINNINGS = {
    "nothing": b"",
    "one byte": b"P",
    "request line": b"POST /runs/wait HTTP/1.1\r\n",
    "header": b"POST /runs/wait HTTP/1.1\r\nHost: runwait\r\nX-Slow: ",
    "body": request("POST", "/runs/wait", "Content-Length: 1000") + b"{",
    "body for nobody": request("POST", "/nope", "Content-Length: 1000") + b"{",
    "announced body": request("POST", "/runs/wait", "Content-Length: 9", "Expect: 100-continue"),
    "chunk": request("POST", "/runs/wait", CHUNKED) + b"fff\r\n{",
    "chunk size": request("POST", "/runs/wait", CHUNKED) + chunked(b"{")[:-5] + b"f",
    "trailer": request("POST", "/runs/wait", CHUNKED) + chunked(b"{")[:-2] + b"X-Slow: ",
    "too large a body": request("POST", "/runs/wait", f"Content-Length: {10**9}") + b"{",
    "no end of nonsense": b"nonsense\r\n\r\n",
}


@pytest.fixture(scope="module")
def server(shared: ServerFactory) -> Iterator[Server]:
    """One worker with few threads and little patience."""
    server = shared(
        LANGGRAPH_CONFIG=ZOO,
        WEB_CONCURRENCY=1,
        WAITERS_MAX=WAITERS_MAX,
        REQUEST_TIMEOUT_SECONDS=REQUEST_TIMEOUT_SECONDS,
        HEARTBEAT_SECONDS=0.1,
        MAX_REQUEST_BYTES=64 * 1024 * 1024,
    )
    workers = server.workers()
    yield server
    assert alive(server)
    assert server.workers() == workers
    assert not server.logged("Traceback")


@contextlib.contextmanager
def crowd(server: Server, beginning: bytes) -> Iterator[list[Wire]]:
    """Clients that have all begun like this, and are still there."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Wire(server)).send(beginning) for _ in range(CROWD)]


def trickle_until_dropped(wires: list[Wire]) -> None:
    """Send a byte to each now and then until the server has ended all of them."""
    left = list(wires)

    def send() -> bool:
        for wire in list(left):
            # What it answers does not matter here, but that it ends the connection does.
            with contextlib.suppress(BlockingIOError):
                try:
                    wire.socket.send(b"a", socket.MSG_NOSIGNAL)
                    ended = wire.socket.recv(65536, socket.MSG_DONTWAIT) == b""
                except ConnectionError:
                    ended = True
                if ended:
                    left.remove(wire)
        return not left

    eventually(send)


class TestSending:
    @pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS.keys())
    def test_slowly_holds_up_nobody(self, server: Server, beginning: bytes) -> None:
        with crowd(server, beginning):
            for _ in range(3):
                assert alive(server)

    @pytest.mark.parametrize(
        "beginning",
        [each for name, each in BEGINNINGS.items() if name != "nothing"],
        ids=[name for name in BEGINNINGS if name != "nothing"],
    )
    def test_slowly_ends_the_connection(self, server: Server, beginning: bytes) -> None:
        with crowd(server, beginning) as wires:
            trickle_until_dropped(wires)
        assert alive(server)

    def test_too_slowly_is_answered_where_the_headers_are_there(self, server: Server) -> None:
        for data in (BEGINNINGS["body"], BEGINNINGS["chunk"]):
            with Wire(server) as wire:
                answer = wire.send(data).answer()
                assert answer.status == 400
                assert answer.detail.startswith("the body breaks off")
                assert wire.closed()

    def test_nothing_for_long_is_no_slow_request(self, server: Server) -> None:
        with Wire(server) as fresh, Wire(server) as used, Wire(server) as slow:
            used.send(request("GET", "/ok")).answer()
            slow.send(b"GET /ok HTT")
            assert slow.closed()  # by now more time has passed than a request may take
            for wire in (fresh, used):
                assert wire.send(request("GET", "/ok")).answer().status == 200

    def test_slowly_counts_for_every_request_of_a_connection(self, server: Server) -> None:
        with Wire(server) as wire:
            wire.send(request("GET", "/ok") + b"GET /ok HTT")
            assert wire.answer().status == 200
            assert wire.closed()


class TestReading:
    # More than the kernel takes off the server's hands.
    VALUE = "a" * (12 * 1024 * 1024)

    def test_nothing_holds_up_nobody_and_ends_the_connection(self, server: Server) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(2 * WAITERS_MAX):
                wire = stack.enter_context(Wire(server, receive_buffer=4096))
                wire.send(run("entry", input=[self.VALUE]))
            assert httpx.get(f"{server.url}/ok", timeout=PATIENCE).status_code == 200
            # Their places to wait in are free again.
            eventually(lambda: place_is_free(server))

    @pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
    def test_a_byte_now_and_then_ends_the_connection(self, server: Server, version: bytes) -> None:
        mine = str(uuid4())
        with Wire(server, receive_buffer=4096) as wire:
            data = run("entry", f"X-Request-ID: {mine}", input=[self.VALUE])
            wire.send(data.replace(b"HTTP/1.1", version))
            eventually(lambda: wire.socket.recv(1) and lines(server, "request", mine))
            # What was on its way may still be read; then it is told from a whole answer.
            with pytest.raises(ConnectionResetError):
                while wire.socket.recv(65536):
                    pass

    def test_slowly_but_steadily_is_served(self, server: Server) -> None:
        with Wire(server, receive_buffer=65536) as wire:
            answer = wire.send(run("entry", input=[self.VALUE])).answer()
        assert json.loads(answer.body) == [self.VALUE]


class TestLeaving:
    def test_without_closing_the_connection_holds_up_nobody(self, server: Server) -> None:
        for data in (b"nonsense\r\n\r\n", request("GET", "/ok", "Connection: close")):
            with crowd(server, data):
                assert alive(server)

    def test_while_waiting_gives_the_place_back_and_the_run_goes_on(
        self, server: Server, tmp_path: Path
    ) -> None:
        mine = str(uuid4())
        with Gate(tmp_path) as gate:
            data = run("sleep_sync", f"X-Request-ID: {mine}", input=gate.input)
            waiting = [Wire(server).send(data) for _ in range(WAITERS_MAX)]
            assert [wire.answer(head=True).status for wire in waiting] == [200] * WAITERS_MAX
            assert not place_is_free(server)
            waiting[0].end()  # to the service, that is going away too
            eventually(lambda: place_is_free(server))
            for wire in waiting:
                wire.close()
            eventually(lambda: len(lines(server, "request", mine)) == WAITERS_MAX)
            assert lines(server, "run ended", mine) == []
            gate.open()
            eventually(lambda: len(lines(server, "run ended", mine)) == WAITERS_MAX)
        assert {line["status"] for line in lines(server, "run ended", mine)} == {"success"}

    def test_right_after_asking_is_noticed_too(self, server: Server) -> None:
        for ending in (Wire.close, Wire.end):
            for _ in range(10):
                mine = str(uuid4())
                data = run(
                    "steps_sync",
                    f"X-Request-ID: {mine}",
                    input=FOREVER,
                    config=UNLIMITED,
                    on_disconnect="cancel",
                )
                with Wire(server) as wire:
                    ending(wire.send(data))
                    eventually(partial(lines, server, "run ended", mine))

    def test_a_join_right_after_asking_for_it_is_noticed_too(self, server: Server) -> None:
        mine = str(uuid4())
        data = run("steps_sync", f"X-Request-ID: {mine}", input=FOREVER, config=UNLIMITED)
        with Wire(server) as wire:
            where = wire.send(data).answer(head=True).headers["location"]
            with Wire(server) as join:
                join.send(request("GET", f"{where}?cancel_on_disconnect=1"))
            eventually(partial(lines, server, "run ended", mine))


@pytest.fixture(scope="module")
def small(shared: ServerFactory) -> Server:
    """One worker that may have some 100 connections and is to be told of it by the kernel."""
    return shared(
        command=["prlimit", "--nofile=250:250", *COMMAND],
        LANGGRAPH_CONFIG=ZOO,
        WEB_CONCURRENCY=1,
        WAITERS_MAX=4,
    )


class TestConnecting:
    """More clients than a process may have connections."""

    @pytest.mark.parametrize("beginning", [b"", b"GET ", BEGINNINGS["body"], b"nonsense\r\n\r\n"])
    def test_holds_up_nobody(self, small: Server, beginning: bytes) -> None:
        workers = small.workers()
        with contextlib.ExitStack() as stack:
            for _ in range(400):
                stack.enter_context(Wire(small)).send(beginning)
            for _ in range(10):
                assert alive(small)
        assert small.workers() == workers
        assert not small.logged("Traceback")

    def test_costs_nobody_the_answer_that_is_waited_for(
        self, small: Server, tmp_path: Path
    ) -> None:
        with Gate(tmp_path) as gate, Wire(small) as wire:
            wire.send(run("sleep_sync", "Connection: close", input=gate.input))
            assert wire.answer(head=True).status == 200
            with contextlib.ExitStack() as stack:
                for _ in range(400):
                    stack.enter_context(Wire(small))
                assert alive(small)
                gate.open()
                assert b'"done":true' in wire.everything()


def place_is_free(server: Server) -> bool:
    """Whether there is room to wait in."""
    with Wire(server) as wire:
        answer = wire.send(run("echo")).answer()
    assert answer.status in (200, 503)
    return answer.status == 200


def lines(server: Server, message: str, request_id: str) -> list[dict[str, Any]]:
    """The lines in the log of such a message about a request."""
    logged = server.log.read_text().split("\n")[:-1]
    found = [json.loads(line) for line in logged if request_id in line]
    return [line for line in found if line["message"] == message]
