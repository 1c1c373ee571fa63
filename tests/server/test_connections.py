"""The clients' connections, over real sockets, with a WSGI application of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.base import Worker

from runwait.api.stream import Document
from runwait.pool import LendingPool
from runwait.runs.events import Cut, End, Follower
from runwait.server import connections
from runwait.server.arrival import Limits
from runwait.server.connections import AHEAD_BYTES, Connections, Handler, Rules
from tests.servers import PATIENCE, eventually

RULES = Rules(Limits(8192, 4096, 1 << 20), PATIENCE, PATIENCE, connections=100)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Gunicorn:
    """As much of gunicorn's worker as answers need."""

    handle_error = Worker.handle_error

    def __init__(self) -> None:
        self.cfg = Config()
        self.log = self
        self.last = False

    def count_request(self) -> bool:
        return self.last

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None  # a log that nobody reads


class Service:
    """Connections on a loop of their own, and the runs that their clients wait for."""

    def __init__(self, rules: Rules, heartbeat: float) -> None:
        self.followers: list[Follower] = []
        self.events: list[str] = []
        # Holds up requests for /gate, each with its thread.
        self.gate = threading.Event()
        self.gunicorn = Gunicorn()
        self.loop = asyncio.new_event_loop()
        self.pool = LendingPool(4, "request")
        handler = Handler(self.gunicorn, self.answer)
        self.connections = Connections(rules, heartbeat, self.loop, self.pool, handler)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.loop.add_reader(self.listener, self.connections.accept, self.listener)
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == "/wait":
            follower = Follower("t", "r")
            follower.on_gone = lambda: self.events.append("gone")
            follower.on_delivered = lambda: self.events.append("delivered")
            follower.on_close = lambda: self.events.append("closed")
            if environ["QUERY_STRING"]:
                follower.give(End(environ["QUERY_STRING"].encode()))
            stream = Document(follower, PATIENCE)
            response = stream.response({})
            self.followers.append(follower)
            return response(environ, start_response)
        if environ["PATH_INFO"] == "/exit":
            sys.exit("said by a graph")
        if environ["PATH_INFO"] == "/gate":
            assert self.gate.wait(PATIENCE)
        body = environ["wsgi.input"].read() or environ["PATH_INFO"].encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def call(self, work: Callable[[], Any]) -> None:
        """Do something on the loop."""
        self.loop.call_soon_threadsafe(work)

    def close(self) -> None:
        self.call(self.loop.stop)
        self.thread.join(PATIENCE)
        self.listener.close()
        self.pool.shutdown()


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Starts services with other rules."""
    with contextlib.ExitStack() as stack:

        def start(heartbeat: float = PATIENCE, **rules: Any) -> Service:
            service = Service(replace(RULES, **rules), heartbeat)
            stack.callback(service.close)
            return service

        yield start


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    """One with time and room for all."""
    return serve()


class Client:
    """A client's end of a connection."""

    def __init__(self, service: Service, data: bytes = b"") -> None:
        self.socket = socket.create_connection(service.listener.getsockname(), PATIENCE)
        self.got = b""
        self.socket.sendall(data)

    def until(self, text: bytes) -> bytes:
        """What came up to a text, which it waits for."""
        while text not in self.got:
            data = self.socket.recv(65536)
            assert data, self.got
            self.got += data
        found, _, self.got = self.got.partition(text)
        return found + text

    def ends(self) -> bool:
        """Whether the connection ends, in an orderly way, with nothing more to be read."""
        return self.socket.recv(1) == b""

    def is_reset(self) -> bool:
        """Whether the connection is reset, after whatever is to be read still."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            return True
        return False


def wait_for_follower(service: Service) -> Follower:
    eventually(lambda: service.followers)
    return service.followers[-1]


class TestRequests:
    def test_are_answered_one_after_another_on_one_connection(self, service):
        client = Client(service)
        for path in (b"/a", b"/b"):
            client.socket.sendall(GET.replace(b" / ", b" %s " % path))
            assert b"200 OK" in client.until(b"\r\n\r\n" + path)

    def test_that_are_sent_ahead_are_answered_in_order(self, service):
        client = Client(service, b"".join(GET.replace(b" / ", b" /%d " % n) for n in range(5)))
        for number in range(5):
            client.until(b"\r\n\r\n/%d" % number)

    def test_may_come_in_pieces(self, service):
        client = Client(service)
        for byte in b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            client.socket.sendall(bytes([byte]))
        client.until(b"\r\n\r\nabc")

    def test_end_the_connection_where_the_client_asks_for_it(self, service):
        client = Client(service, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b"Connection: close" in client.until(b"\r\n\r\n/")
        assert client.ends()

    def test_that_are_no_http_are_answered_with_a_400(self, service):
        client = Client(service, b"nonsense\r\n\r\n")
        assert b"400 Bad Request" in client.until(b"}")
        assert client.ends()

    def test_that_make_a_graph_exit_are_answered_with_a_500(self, service):
        client = Client(service, GET.replace(b" / ", b" /exit "))
        assert b"500 Internal Server Error" in client.until(b"}")
        assert client.ends()

    def test_after_a_stop_are_answered_once_more_and_end_the_connection(self, service):
        client = Client(service, GET)
        client.until(b"\r\n\r\n/")
        service.gunicorn.last = True
        client.socket.sendall(GET)
        assert b"Connection: close" in client.until(b"\r\n\r\n/")
        assert client.ends()

    def test_are_answered_although_idle_connections_are_ended(self, service, monkeypatch):
        monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.0)
        idle, waiting = Client(service), Client(service, GET.replace(b" / ", b" /wait "))
        waiting.until(b"\r\n\r\n")
        arriving = Client(service, GET[:-2])
        eventually(lambda: service.connections.arriving.since)
        service.call(service.connections.close_unused)
        assert idle.ends()
        assert service.connections.used
        arriving.socket.sendall(GET[-2:])
        arriving.until(b"\r\n\r\n/")
        wait_for_follower(service).give(End(b"{}"))
        waiting.until(b"{}\r\n0\r\n\r\n")
        eventually(lambda: service.events == ["delivered", "closed"])

        def ended() -> bool:
            service.call(service.connections.close_unused)
            return not service.connections.used

        eventually(ended)
        assert arriving.ends()
        assert waiting.ends()

    def test_may_follow_an_answer_that_did_not_end_the_connection(self, service, monkeypatch):
        monkeypatch.setattr(connections, "PAUSE_SECONDS", PATIENCE)
        client = Client(service, GET.replace(b" / ", b" /wait "))
        assert b"Connection: keep-alive" in client.until(b"\r\n\r\n")
        service.gunicorn.last = True
        wait_for_follower(service).give(End(b"{}"))
        client.until(b"0\r\n\r\n")
        service.call(service.connections.close_unused)
        client.socket.sendall(GET)
        assert b"Connection: close" in client.until(b"\r\n\r\n/")
        assert client.ends()

    def test_that_do_not_arrive_in_time_end_the_connection(self, serve):
        service = serve(request_seconds=0.05)
        client = Client(service, b"GET / HT")
        assert client.ends()

    def test_are_waited_for_as_long_as_connections_are_kept(self, serve):
        service = serve(idle_seconds=0.05)
        assert Client(service).ends()


class TestWaits:
    def test_get_the_headers_at_once_and_the_document_when_it_is_there(self, service):
        client = Client(service, GET.replace(b" / ", b" /wait "))
        assert b"Transfer-Encoding: chunked" in client.until(b"\r\n\r\n")
        wait_for_follower(service).give(End(b"{}"))
        assert client.until(b"0\r\n\r\n") == b"2\r\n{}\r\n0\r\n\r\n"
        eventually(lambda: service.events == ["delivered", "closed"])
        client.socket.sendall(GET)
        client.until(b"\r\n\r\n/")

    def test_get_the_headers_at_once_while_threads_have_other_requests(self, service):
        held = [Client(service, GET.replace(b" / ", b" /gate ")) for _ in range(3)]
        for _ in range(2):
            waiting = Client(service, GET.replace(b" / ", b" /wait "))
            waiting.until(b"Transfer-Encoding: chunked\r\n")
        service.gate.set()
        for client in held:
            client.until(b"\r\n\r\n/gate")
        # Nobody is left who may be late, and the loop sleeps.
        eventually(lambda: not service.connections._looking)

    def test_whose_document_is_there_get_it_with_its_length(self, service):
        client = Client(service, GET.replace(b" / ", b" /wait?abc "))
        assert b"Content-Length: 3" in client.until(b"\r\n\r\nabc")
        eventually(lambda: service.events == ["delivered", "closed"])

    def test_hold_no_thread(self, service):
        clients = [Client(service, GET.replace(b" / ", b" /wait ")) for _ in range(20)]
        for client in clients:
            client.until(b"\r\n\r\n")
        Client(service, GET).until(b"\r\n\r\n/")
        for follower in service.followers:
            follower.give(End(b"{}"))
        for client in clients:
            client.until(b"{}\r\n0\r\n\r\n")

    def test_are_sent_heartbeats(self, serve):
        service = serve(heartbeat=0.01)
        client = Client(service, GET.replace(b" / ", b" /wait "))
        client.until(b"\r\n\r\n")
        client.until(b"1\r\n\n\r\n1\r\n\n\r\n")
        wait_for_follower(service).give(End(b"{}"))
        client.until(b"2\r\n{}\r\n0\r\n\r\n")

    def test_without_chunks_end_with_the_connection(self, service):
        client = Client(service, b"GET /wait HTTP/1.0\r\n\r\n")
        assert b"chunked" not in client.until(b"\r\n\r\n")
        wait_for_follower(service).give(End(b"{}"))
        client.until(b"{}")
        assert client.ends()

    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_that_get_no_document_are_reset(self, service, version):
        client = Client(service, b"GET /wait HTTP/%s\r\nHost: x\r\n\r\n" % version)
        client.until(b"\r\n\r\n")
        wait_for_follower(service).give(Cut.ELSEWHERE)
        assert client.is_reset()
        eventually(lambda: service.events == ["closed"])

    @pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
    def test_notice_a_client_that_goes_away(self, service, how):
        client = Client(service, GET.replace(b" / ", b" /wait "))
        client.until(b"\r\n\r\n")
        if how == "shutdown":
            client.socket.shutdown(socket.SHUT_WR)
        else:
            if how == "reset":
                linger = (1).to_bytes(4, "little") + bytes(4)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.socket.close()
        eventually(lambda: service.events == ["gone", "closed"])

    def test_notice_a_client_that_goes_away_before_the_headers(self, service):
        Client(service, GET.replace(b" / ", b" /wait ")).socket.close()
        eventually(lambda: service.events == ["gone", "closed"])

    def test_take_no_request_sent_ahead_for_an_end(self, service):
        client = Client(service, GET.replace(b" / ", b" /wait ") + GET)
        client.until(b"\r\n\r\n")
        wait_for_follower(service).give(End(b"{}"))
        client.until(b"0\r\n\r\n")
        client.until(b"\r\n\r\n/")

    def test_notice_a_client_that_goes_away_although_it_sent_much_ahead(self, serve):
        service = serve(heartbeat=0.01)
        client = Client(service, GET.replace(b" / ", b" /wait "))
        client.until(b"\r\n\r\n")
        client.socket.sendall(b"x" * 4 * AHEAD_BYTES)
        client.socket.close()
        eventually(lambda: service.events == ["gone", "closed"])

    def test_where_no_body_is_asked_for_are_over_at_once(self, service):
        client = Client(service, GET.replace(b"GET / ", b"HEAD /wait "))
        client.until(b"\r\n\r\n")
        eventually(lambda: service.events == ["closed"])
        client.socket.sendall(GET)
        client.until(b"\r\n\r\n/")


class TestReading:
    def test_nothing_for_long_ends_the_connection(self, serve):
        service = serve(request_seconds=0.2)
        client = Client(service, GET.replace(b" / ", b" /wait "))
        client.until(b"\r\n\r\n")
        wait_for_follower(service).give(End(b"a" * (32 << 20)))
        eventually(lambda: service.events == ["gone", "closed"])
        assert client.is_reset()


class Exhausted:
    """A listener, for whose first connections no file descriptor is left."""

    def __init__(self, listener: socket.socket, refusals: int) -> None:
        self.listener = listener
        self.refusals = refusals

    def accept(self) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return self.listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.listener, name)


class TestRoom:
    @pytest.mark.parametrize("rest", [0.01, PATIENCE])
    def test_that_the_machine_does_not_give_is_not_asked_for_all_the_time(
        self, service, monkeypatch, rest
    ):
        monkeypatch.setattr(connections, "REST_SECONDS", rest)
        waiting = Client(service, GET.replace(b" / ", b" /wait "))
        waiting.until(b"\r\n\r\n")
        exhausted = Exhausted(service.listener, 1000 if rest == PATIENCE else 3)

        def exhaust() -> None:
            service.loop.remove_reader(service.listener)
            service.loop.add_reader(exhausted, service.connections.accept, exhausted)

        service.call(exhaust)
        client = Client(service, GET)
        if rest == PATIENCE:
            eventually(lambda: exhausted.refusals < 1000)
            for _ in range(20):
                turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), service.loop)
                turn.result(PATIENCE)
            assert exhausted.refusals == 999
        else:
            client.until(b"\r\n\r\n/")

    def test_is_made_by_those_who_do_nothing(self, serve):
        service = serve(connections=10)
        idle = [Client(service) for _ in range(30)]
        Client(service, GET).until(b"\r\n\r\n/")
        assert idle[0].ends()

    def test_is_not_made_by_those_who_wait(self, serve):
        service = serve(connections=10)
        waiting = Client(service, GET.replace(b" / ", b" /wait "))
        waiting.until(b"\r\n\r\n")
        for _ in range(30):
            Client(service)
        Client(service, GET).until(b"\r\n\r\n/")
        wait_for_follower(service).give(End(b"{}"))
        waiting.until(b"{}\r\n0\r\n\r\n")
