"""Clients that go away, and connections that are ended so that nobody takes it for an answer."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator

import pytest

from runwait.api import clients
from runwait.api.clients import Watcher
from tests.servers import PATIENCE


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the client's end, and the service's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        client.settimeout(PATIENCE)
        served, _ = listener.accept()
    with client, served:
        yield client, served


@pytest.fixture
def watcher() -> Watcher:
    """A watcher that watches."""
    watcher = Watcher()
    watcher.start()
    return watcher


class TestWatcher:
    @pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
    def test_notices_a_client_that_closes(self, watcher, pair, reset):
        client, served = pair
        gone = threading.Event()
        watcher.watch(served, gone.set)
        if reset:
            clients.end_with_reset(client)
        client.close()
        assert gone.wait(PATIENCE)

    def test_notices_a_client_that_will_send_no_more(self, watcher, pair):
        client, served = pair
        gone = threading.Event()
        watcher.watch(served, gone.set)
        client.shutdown(socket.SHUT_WR)
        assert gone.wait(PATIENCE)

    def test_notices_a_client_that_was_gone_before(self, watcher, pair):
        client, served = pair
        client.sendall(b"a request sent ahead")
        client.close()
        wait_for_end(served)
        gone = threading.Event()
        watcher.watch(served, gone.set)
        assert gone.wait(PATIENCE)

    def test_takes_no_request_sent_ahead_for_an_end(self, watcher, pair):
        client, served = pair
        gone = threading.Event()
        watcher.watch(served, gone.set)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        noticed_another(watcher)
        assert not gone.is_set()
        client.close()
        assert gone.wait(PATIENCE)

    def test_tells_once(self, watcher, pair):
        client, served = pair
        told = []
        watcher.watch(served, lambda: told.append(True))
        client.shutdown(socket.SHUT_WR)
        noticed_another(watcher)
        client.close()
        noticed_another(watcher)
        assert told == [True]

    def test_tells_nothing_of_what_is_watched_no_more(self, watcher, pair):
        client, served = pair
        told = []
        stop = watcher.watch(served, lambda: told.append(True))
        stop()
        stop()
        client.close()
        noticed_another(watcher)
        assert told == []

    def test_watches_a_connection_again(self, watcher, pair):
        client, served = pair
        watcher.watch(served, lambda: None)()
        gone = threading.Event()
        watcher.watch(served, gone.set)
        client.close()
        assert gone.wait(PATIENCE)

    def test_takes_no_connection_for_one_that_had_its_number_before(self, pair):
        _, served = pair
        heard, told = threading.Event(), []

        class Late:
            """Says of a connection that it is gone when another has its number already."""

            def __init__(self) -> None:
                self.answers = iter([[served.fileno()]])

            def add(self, descriptor: int) -> None:
                pass

            def gone(self) -> list[int]:
                answer = next(self.answers, None)
                if answer is None:
                    heard.set()
                    threading.Event().wait()
                return answer or []

        watcher = Watcher()
        watcher._poller = poller = Late()  # type: ignore[assignment]
        watcher.watch(served, lambda: told.append(True))
        threading.Thread(target=watcher._run, args=(poller,), daemon=True).start()
        assert heard.wait(PATIENCE)
        assert told == []


class TestReset:
    def test_is_seen_by_the_client(self, pair):
        client, served = pair
        served.sendall(b"half an ans")
        error = clients.reset(served)
        assert isinstance(error, ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            while client.recv(100):
                pass

    def test_leaves_a_socket_that_can_be_closed_like_any_other(self, pair):
        _, served = pair
        clients.reset(served)
        served.shutdown(socket.SHUT_WR)
        assert served.recv(1) == b""
        served.close()

    def test_of_a_client_that_is_gone_does_no_harm(self, pair):
        client, served = pair
        clients.end_with_reset(client)
        client.close()
        wait_for_end(served)
        clients.reset(served)

    def test_of_a_watched_connection_is_no_client_that_goes_away(self, watcher, pair):
        _, served = pair
        told = []
        stop = watcher.watch(served, lambda: told.append(True))
        clients.reset(served)
        noticed_another(watcher)
        stop()
        assert told == []


class TestEnding:
    def test_with_a_reset_tells_the_client_that_the_answer_is_cut(self, pair):
        client, served = pair
        served.sendall(b"half an ans")
        clients.end_with_reset(served)
        served.close()
        with pytest.raises(ConnectionResetError):
            while client.recv(100):
                pass

    def test_as_usual_lets_the_client_have_all_of_it(self, pair):
        client, served = pair
        clients.end_with_reset(served)
        served.sendall(b"an answer")
        clients.end_as_usual(served)
        served.close()
        assert client.recv(100) == b"an answer"
        assert client.recv(100) == b""

    def test_with_a_reset_can_be_told(self, pair):
        _, served = pair
        assert not clients.ends_with_reset(served)
        clients.end_with_reset(served)
        assert clients.ends_with_reset(served)
        clients.end_as_usual(served)
        assert not clients.ends_with_reset(served)
        served.close()
        assert not clients.ends_with_reset(served)


def test_a_request_without_a_connection_has_none():
    assert clients.socket_of({}) is None


def wait_for_end(connection: socket.socket) -> None:
    """Until the kernel has heard that the peer is gone."""
    poll = select.poll()
    poll.register(connection, select.POLLHUP | getattr(select, "POLLRDHUP", 0))
    assert poll.poll(PATIENCE * 1000)


def noticed_another(watcher: Watcher) -> None:
    """What was to be noticed before this is noticed by now."""
    here, there = socket.socketpair()
    with here:
        gone = threading.Event()
        watcher.watch(here, gone.set)
        there.close()
        assert gone.wait(PATIENCE)
