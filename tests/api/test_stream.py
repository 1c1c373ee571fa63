"""The body of an answer that waits: heartbeats while it does, then the document."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from runwait.api.stream import THREAD_STREAM_MODES, Document, EventStream, ThreadStream, frame
from runwait.runs.events import (
    BACKLOG_BYTES,
    REMOVED,
    Cut,
    End,
    Event,
    Follower,
    ThreadFollower,
    metadata_of,
)

FOR_EVER = 1000.0


class Recorder:
    """A follower, and what became of it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.follower = Follower("t", "r")
        self.follower.on_gone = lambda: self.events.append("gone")
        self.follower.on_delivered = lambda: self.events.append("delivered")
        self.follower.on_close = lambda: self.events.append("closed")

    def respond(self, pause: float = FOR_EVER) -> Any:
        return Document(self.follower, pause).response({"Location": "/join"})


@pytest.fixture
def recorder() -> Recorder:
    """A follower that notes what becomes of it."""
    return Recorder()


def test_the_response_has_the_headers_and_is_json(recorder):
    headers = recorder.respond().headers
    assert headers["Location"] == "/join"
    assert headers["Content-Type"] == "application/json"


def test_a_document_that_is_there_is_sent_with_its_length(recorder):
    recorder.follower.give(End(b'{"a": 1}'))
    response = recorder.respond()
    assert response.headers["Content-Length"] == "8"
    assert response.response.is_whole
    assert list(response.response) == [b'{"a": 1}']


class TestIterated:
    """As a server without a loop does it."""

    def test_lets_the_headers_go_ahead_of_a_document_that_is_not_there_yet(self, recorder):
        response = recorder.respond()
        assert "Content-Length" not in response.headers
        body = iter(response.response)
        assert next(body) == b""
        recorder.follower.give(End(b"{}"))
        assert list(body) == [b"{}"]

    def test_beats_for_every_pause_without_a_document(self, recorder):
        body = iter(recorder.respond(pause=0.001).response)
        assert [next(body) for _ in range(4)] == [b"", b"\n", b"\n", b"\n"]
        recorder.follower.give(End(b"{}"))
        assert b"".join(body).lstrip() == b"{}"

    def test_sends_the_document_without_waiting_for_the_pause_to_end(self, recorder):
        body = iter(recorder.respond().response)
        next(body)
        thread = threading.Thread(target=recorder.follower.give, args=(End(b"{}"),))
        thread.start()
        assert next(body) == b"{}"
        thread.join()

    @pytest.mark.parametrize("early", [True, False], ids=["at once", "later"])
    def test_counts_as_delivered_once_it_was_written(self, recorder, early):
        if early:
            recorder.follower.give(End(b"{}"))
        response = recorder.respond()
        body = iter(response.response)
        recorder.follower.give(End(b"{}"))
        while next(body) != b"{}":
            pass
        assert recorder.events == []
        assert list(body) == []
        assert recorder.events == ["delivered"]
        response.response.close()
        assert recorder.events == ["delivered", "closed"]

    @pytest.mark.parametrize("why", list(Cut))
    def test_breaks_off_where_there_is_to_be_no_document(self, recorder, why):
        body = iter(recorder.respond().response)
        next(body)
        recorder.follower.give(why)
        with pytest.raises(ConnectionResetError):
            next(body)
        assert "delivered" not in recorder.events

    def test_tells_that_the_client_is_gone_where_it_cannot_be_written(self, recorder):
        body = iter(recorder.respond(pause=0.001).response)
        assert [next(body), next(body)] == [b"", b"\n"]
        body.close()
        assert recorder.events == ["gone"]


class TestTaken:
    """As the worker's loop does it."""

    def test_wakes_the_loop_when_there_is_something_to_send(self, recorder):
        stream = recorder.respond().response
        woken: list[list[bytes]] = []
        stream.listen(lambda: woken.append(stream.take()))
        recorder.follower.give(End(b"{}"))
        assert woken == [[], [b"{}"]]
        assert stream.is_whole and not stream.is_cut

    def test_says_that_it_is_cut_where_there_is_to_be_no_document(self, recorder):
        stream = recorder.respond().response
        recorder.follower.give(Cut.ELSEWHERE)
        assert stream.take() == []
        assert stream.is_cut and not stream.is_whole

    @pytest.mark.parametrize("first", ["body", "response"])
    def test_is_closed_with_the_response_once_whichever_the_server_closes(self, recorder, first):
        response = recorder.respond()
        response.call_on_close(lambda: recorder.events.append("response closed"))
        ends = {"body": response.response.close, "response": response.close}
        for each in (ends.pop(first), *ends.values()):
            each()
            each()
        assert sorted(recorder.events) == ["closed", "response closed"]


class TestEvents:
    """Of a client that streams."""

    def follower(self) -> Follower:
        return Follower("t", "r", streams=True)

    def test_is_made_of_frames_until_the_end(self):
        follower = self.follower()
        stream = EventStream(follower, FOR_EVER)
        follower.give(Event("metadata", b"{}"))
        follower.give(Event("values", b"1", (7, 2)))
        assert b"".join(stream.take()) == (
            b"event: metadata\r\ndata: {}\r\n\r\nevent: values\r\ndata: 1\r\nid: 7-2\r\n\r\n"
        )
        assert not stream.is_whole
        follower.give(End(b"{}", [Event("end", b"{}"), Event("late", b"{}")]))
        assert stream.take() == [b"event: end\r\ndata: {}\r\n\r\n"]
        assert stream.is_whole

    def test_begins_with_metadata_even_if_there_was_nothing_but_an_end(self):
        follower = self.follower()
        stream = EventStream(follower, FOR_EVER)
        follower.give(Event("end", b"{}"))
        assert b"".join(stream.take()).startswith(b"event: metadata\r\n")

    def test_leaves_out_what_is_not_asked_for_but_never_how_it_ends(self):
        follower = self.follower()
        stream = EventStream(follower, FOR_EVER, frozenset({"values"}))
        for name in ("metadata", "updates|a:1", "values|a:1", "values", "error", "end"):
            follower.give(Event(name, b"{}"))
        names = [each.split(b"\r\n")[0][7:] for each in stream.take()]
        assert names == [b"metadata", b"values|a:1", b"values", b"error", b"end"]

    def test_escapes_what_some_readers_take_for_the_end_of_a_line(self):
        sent = frame(Event("values", '"a\u2028\u2029\x85é"'.encode()))
        assert sent == 'event: values\r\ndata: "a\\u2028\\u2029\\u0085é"\r\n\r\n'.encode()

    def test_of_who_does_not_read_ends_with_an_error(self):
        follower = self.follower()
        stream = EventStream(follower, FOR_EVER)
        large = b"1" * (BACKLOG_BYTES // 2)
        for _ in range(3):
            follower.give(Event("values", large))
        *_, last = stream.take()
        assert stream.is_whole
        assert b"event: error\r\n" in last

    def test_that_is_cut_breaks_off(self):
        follower = self.follower()
        body = iter(EventStream(follower, FOR_EVER))
        next(body)
        follower.give(Cut.ELSEWHERE)
        with pytest.raises(ConnectionResetError):
            list(body)


def test_a_stream_begins_once_however_often_it_is_told_so():
    follower = Follower("t", "r", streams=True)
    stream = EventStream(follower, 60.0)
    first, second = metadata_of("t", "r", 1), metadata_of("t", "r", 2)
    for event in (first, Event(first.name, first.data, (1, 1)), Event("custom", b"1"), second):
        follower.give(event)
    sent = b"".join(stream.take())
    assert sent.count(b"event: metadata") == 2
    assert sent.index(first.data) < sent.index(b"event: custom") < sent.index(second.data)


def test_a_stream_of_a_thread_is_not_told_that_it_was_removed():
    follower = ThreadFollower("t")
    body = ThreadStream(follower, FOR_EVER, THREAD_STREAM_MODES)
    event = Event("values", b"1")
    for each in (Event(REMOVED, b"null"), event):
        follower.give(each)
    assert body.take() == [frame(event)]
