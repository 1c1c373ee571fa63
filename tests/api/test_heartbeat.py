"""The answer to a request that waits: newlines while it does, then the document."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from runwait.api import heartbeat
from runwait.runs.waits import Ended, Wait

FOR_EVER = 1000.0


class Watch:
    """Stands in for the watcher: notes what is watched."""

    def __init__(self) -> None:
        self.gone: Callable[[], None] | None = None

    def watch(self, connection: socket.socket, gone: Callable[[], None]) -> Callable[[], None]:
        self.gone = gone
        return self.stop

    def stop(self) -> None:
        self.gone = None


class Recorder:
    """A wait, and what became of it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.wait = Wait("t", "r")
        self.wait.on_gone = lambda: self.events.append("gone")
        self.wait.on_delivered = lambda: self.events.append("delivered")
        self.wait.on_close = lambda: self.events.append("closed")

    def respond(self, pause: float = FOR_EVER, environ: dict[str, Any] | None = None) -> Any:
        return heartbeat.respond(self.wait, environ or {}, Watch(), pause)  # type: ignore[arg-type]


@pytest.fixture
def recorder() -> Recorder:
    """A wait that notes what becomes of it."""
    return Recorder()


def test_the_headers_name_the_run_and_keep_proxies_from_holding_the_answer_back(recorder):
    headers = recorder.respond().headers
    assert headers["Location"] == "/threads/t/runs/r/join"
    assert headers["Content-Location"] == "/threads/t/runs/r"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Accel-Buffering"] == "no"
    assert headers["Cache-Control"] == "no-store"


def test_a_document_that_is_there_is_sent_with_its_length(recorder):
    recorder.wait.give(b'{"a": 1}')
    response = recorder.respond()
    assert response.headers["Content-Length"] == "8"
    assert list(response.response) == [b'{"a": 1}']


def test_a_document_that_is_not_there_yet_has_no_length_and_lets_the_headers_go_ahead(recorder):
    response = recorder.respond()
    assert "Content-Length" not in response.headers
    body = iter(response.response)
    assert next(body) == b""
    recorder.wait.give(b"{}")
    assert list(body) == [b"{}"]


def test_a_newline_is_sent_for_every_pause_without_a_document(recorder):
    body = iter(recorder.respond(pause=0.001).response)
    assert [next(body) for _ in range(4)] == [b"", b"\n", b"\n", b"\n"]
    recorder.wait.give(b"{}")
    assert b"".join(body).lstrip() == b"{}"


def test_the_document_is_sent_without_waiting_for_the_pause_to_end(recorder):
    body = iter(recorder.respond(pause=FOR_EVER).response)
    next(body)
    threading.Timer(0.01, recorder.wait.give, [b"{}"]).start()
    assert next(body) == b"{}"


@pytest.mark.parametrize("early", [True, False], ids=["at once", "later"])
def test_a_document_counts_as_delivered_once_it_was_written(recorder, early):
    if early:
        recorder.wait.give(b"{}")
    response = recorder.respond()
    body = iter(response.response)
    recorder.wait.give(b"{}")
    while next(body) != b"{}":
        pass
    assert recorder.events == []
    assert list(body) == []
    assert recorder.events == ["delivered"]
    response.close()
    assert recorder.events == ["delivered", "closed"]


@pytest.mark.parametrize("why", list(Ended))
def test_an_answer_without_a_document_breaks_off(recorder, why):
    body = iter(recorder.respond().response)
    next(body)
    recorder.wait.give(why)
    with pytest.raises(ConnectionResetError):
        next(body)
    assert "delivered" not in recorder.events


def test_an_answer_that_cannot_be_written_tells_that_the_client_is_gone(recorder):
    response = recorder.respond(pause=0.001)
    body = iter(response.response)
    assert [next(body), next(body)] == [b"", b"\n"]
    response.close()
    assert recorder.events == ["gone", "closed"]


def test_an_answer_that_nobody_asks_the_body_of_is_only_closed(recorder):
    recorder.respond().close()
    assert recorder.events == ["closed"]


class TestOnAConnection:
    @pytest.fixture
    def connection(self):
        """The service's end of a connection, with the client's as `peer`."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            served, _ = listener.accept()
        with client, served:
            yield client, served

    def test_a_client_is_watched_until_the_answer_is_closed(self, recorder, connection):
        watch = Watch()
        environ = {"gunicorn.socket": connection[1]}
        response = heartbeat.respond(recorder.wait, environ, watch, FOR_EVER)  # type: ignore[arg-type]
        assert watch.gone == recorder.wait.client_gone
        response.close()
        assert watch.gone is None

    def test_a_document_that_is_there_needs_no_watch(self, recorder, connection):
        watch = Watch()
        recorder.wait.give(b"{}")
        environ = {"gunicorn.socket": connection[1]}
        heartbeat.respond(recorder.wait, environ, watch, FOR_EVER)  # type: ignore[arg-type]
        assert watch.gone is None

    def test_the_connection_is_reset_if_it_ends_before_the_document(self, recorder, connection):
        client, served = connection
        body = iter(recorder.respond(environ={"gunicorn.socket": served}).response)
        next(body)
        served.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)

    def test_the_connection_ends_as_usual_after_the_document(self, recorder, connection):
        client, served = connection
        body = iter(recorder.respond(environ={"gunicorn.socket": served}).response)
        next(body)
        recorder.wait.give(b"{}")
        assert list(body) == [b"{}"]
        served.close()
        assert client.recv(1) == b""

    def test_the_connection_ends_as_usual_where_no_body_is_asked_for(self, recorder, connection):
        client, served = connection
        recorder.respond(environ={"gunicorn.socket": served}).close()
        served.close()
        assert client.recv(1) == b""

    def test_an_answer_without_a_document_resets_the_connection(self, recorder, connection):
        client, served = connection
        body = iter(recorder.respond(environ={"gunicorn.socket": served}).response)
        next(body)
        recorder.wait.give(Ended.ELSEWHERE)
        with pytest.raises(ConnectionResetError):
            next(body)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
