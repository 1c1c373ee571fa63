"""Answers that come in pieces: headers, heartbeats while a run works, and what it gives.

The body of a client that waits ends with the run's document; that of one that streams has all its
events (contract section 7).

One body has two drivers. The worker of `runwait serve` hands it to the loop that has the client's
connection (server/connections.py), so that a client who waits holds no thread. Under any other WSGI
server, such as Flask's test client, the request's own thread iterates over it.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from flask import Response
from werkzeug.datastructures import Headers

from runwait.api import current
from runwait.runs import events
from runwait.runs.events import AT_ONCE_SECONDS, Cut, Event, Follower, Given
from runwait.serialization import dumps
from runwait.storage.events import text_of

# In the environ of a server that takes a body which is not whole yet, and comes back for the rest.
DEFERS = "runwait.defers"
# What keeps caches and proxies from holding back a piece.
_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def pause() -> float:
    """Seconds between heartbeats."""
    return current.settings().heartbeat_seconds


class _Response(Response):
    """Closes once, whether the server closes it or its body."""

    _closed = False

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Called by the server, or by what stands before it."""
        if isinstance(self.response, Stream) and not environ.get(DEFERS):
            self.response.wait_at_once(self)
        return super().__call__(environ, start_response)

    def get_wsgi_headers(self, environ: Any) -> Headers:
        """The headers as they are: where they name paths, these are encoded."""
        return self.headers

    def close(self) -> None:
        """Close the body, and do what is to be done then."""
        if not self._closed:
            self._closed = True
            super().close()


class Stream:
    """A response's body that follows a run: a heartbeat now and then, and what the run gives.

    Attributes:
        heartbeat: what is sent to keep the connection from looking idle; no parser sees it.
        mimetype: of the body.
        in_one_piece: nothing of it is there before all of it is: it is worth waiting for, and has
            a length where that takes no longer than AT_ONCE_SECONDS.
        is_whole: there is nothing to come after what there is.
        is_cut: it will not become whole here.
    """

    heartbeat = b""
    mimetype = ""
    in_one_piece = False

    def __init__(self, follower: Follower, pause: float) -> None:
        """Prepare.

        Args:
            follower: follows the run; closed with the response.
            pause: seconds between heartbeats.
        """
        self._follower = follower
        self._pause = pause
        self._on_close: Callable[[], None] = lambda: None
        self._closed = False
        self._pieces: list[bytes] = []
        self.is_whole = False
        self.is_cut = False

    def response(self, headers: dict[str, str]) -> Response:
        """The response that has this body; with its length, where all of it is there already."""
        self._pieces = self._taken()
        # Passed on as it is, the body reaches the server unwrapped. Its closing is the response's.
        headers = {**headers, **_UNBUFFERED}
        response = self._passed_on(headers=headers, mimetype=self.mimetype)
        self._note_length(response)
        return response

    def _note_length(self, response: Response) -> None:
        if self.is_whole:
            response.headers["Content-Length"] = str(sum(map(len, self._pieces)))

    def wait_at_once(self, response: Response) -> None:
        """Wait on this thread for an answer in one piece, as the loop would."""
        if self.in_one_piece and not self.is_whole:
            self._follower.wait(AT_ONCE_SECONDS)
            self._pieces += self._taken()
            self._note_length(response)
            if not self.is_whole:
                self.lasts()

    def _passed_on(self, **options: Any) -> Response:
        """A response that has this body as it is."""
        response = _Response(self, **options, direct_passthrough=True)
        self._on_close = response.close
        return response

    def take(self) -> list[bytes]:
        """What there is to be sent by now, and was not taken before."""
        pieces, self._pieces = self._pieces, []
        return pieces + self._taken()

    def _taken(self) -> list[bytes]:
        pieces = []
        for given in self._follower.take():
            if self.is_whole or self.is_cut:
                break  # what was given first counts
            if piece := self._piece_of(given):
                pieces.append(piece)
        return pieces

    def _piece_of(self, given: Given) -> bytes:
        """What is sent for something that the follower was given."""
        raise NotImplementedError

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, whenever there is something to be taken."""
        self._follower.listen(wake)

    def lasts(self) -> None:
        """It did not become whole at once: its headers are about to be sent. May block."""
        self._follower.on_lasting()

    def go_on(self) -> None:
        """What is left to do on the thread of its request, once the loop sends the pieces."""

    def client_gone(self) -> None:
        """The client closed its connection before all was sent."""
        self._follower.client_gone()

    def delivered(self) -> None:
        """All was sent."""
        self._follower.delivered()

    def close(self) -> None:
        """The response is over, however it went. May be called again."""
        if not self._closed:
            self._closed = True
            self._follower.close()
            self._on_close()
            del self._on_close  # which has this body

    def __iter__(self) -> Iterator[bytes]:
        """The driver for servers without a loop: blocks between pieces."""
        try:
            # The headers go with the first piece, even if that is empty.
            yield b"".join(self.take())
            while not self.is_whole:
                if not self._follower.wait(self._pause):
                    yield self.heartbeat
                    continue
                yield from self.take()
                if self.is_cut:
                    # An answer that has no end must not look whole.
                    raise ConnectionResetError(errno.ECONNRESET, "the answer is elsewhere")
        except GeneratorExit:
            self.client_gone()
            raise
        self.delivered()


class Document(Stream):
    """The body of a client that waits for a run's document."""

    heartbeat = b"\n"  # JSON parsers skip it
    mimetype = "application/json"
    in_one_piece = True

    def _piece_of(self, given: Given) -> bytes:
        if isinstance(given, events.End):
            self.is_whole = True
            return given.document
        self.is_cut = isinstance(given, Cut)
        return b""


class EventStream(Stream):
    """The body of a client that streams a run: server-sent events."""

    heartbeat = b": heartbeat\r\n\r\n"
    mimetype = "text/event-stream"

    def __init__(
        self, follower: Follower, pause: float, names: frozenset[str] | None = None
    ) -> None:
        """Prepare.

        Args:
            follower: streams the run; closed with the response.
            pause: seconds between heartbeats.
            names: those of the events that are wanted; None for all. What begins, fails and ends
                the run is always wanted.
        """
        super().__init__(follower, pause)
        self._names = names
        self._begun = False
        self._metadata = b""

    def _piece_of(self, given: Given) -> bytes:
        if given is Cut.TOO_SLOW:
            self.is_whole = True
            text = f"{given.value}: come again and ask for what is missing"
            return frame(Event(events.ERROR, dumps({"error": "TooSlow", "message": text})))
        if not isinstance(given, Event):
            self.is_cut = True
            return b""
        if given.name == events.METADATA:
            if given.data == self._metadata:
                return b""  # who joins a run as it begins is told of that twice
            self._metadata = given.data
        piece = b""
        if not self._begun and given.name != events.METADATA:
            # It ended before it was ever started.
            piece = frame(events.metadata_of(self._follower.thread_id, self._follower.run_id, 1))
        self._begun = True
        self.is_whole = given.name == events.END
        name = given.name.partition("|")[0]
        if self._names is not None and name not in self._names and name not in _ALWAYS:
            return piece
        return piece + frame(given)


class ThreadStream(EventStream):
    """The body of a client that follows the runs of a thread, without an end."""

    def __init__(self, follower: Follower, pause: float, modes: Sequence[str]) -> None:
        """Prepare.

        Args:
            follower: follows the thread; closed with the response.
            pause: seconds between heartbeats.
            modes: which events are wanted, of THREAD_STREAM_MODES.
        """
        super().__init__(follower, pause)
        self._modes = frozenset(modes)
        self._begun = True

    def _piece_of(self, given: Given) -> bytes:
        if isinstance(given, Event):
            if given.name == events.END:
                ended = json.loads(given.data)
                done = {"status": "run_done", "run_id": ended["run_id"], "how": ended["status"]}
                given = replace(given, name=events.METADATA, data=dumps(done))
            mode = _MODES.get(given.name, "run_modes")
            if mode not in self._modes and not (mode == "lifecycle" and "run_modes" in self._modes):
                return b""
        return super()._piece_of(given)


STATE_UPDATE = "state_update"
THREAD_STREAM_MODES = ("run_modes", "lifecycle", STATE_UPDATE)
_MODES = {events.METADATA: "lifecycle", STATE_UPDATE: STATE_UPDATE, events.REMOVED: "none"}
_ALWAYS = frozenset({events.METADATA, events.ERROR, events.END, "feedback"})
# Line ends for some readers, and for others none.
_ESCAPED = (
    ("\x85".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


def frame(event: Event) -> bytes:
    """An event as it is sent."""
    return frame_of(event.name, event.data, "" if event.id is None else text_of(event.id))


def frame_of(name: str, data: bytes, place: str) -> bytes:
    """An event as it is sent; `place` is its id, if it has one."""
    if not data.isascii():
        for char, escape in _ESCAPED:
            data = data.replace(char, escape)  # in JSON, they stand in strings alone
    id_line = f"id: {place}\r\n" if place else ""
    return b"event: %b\r\ndata: %b\r\n%b\r\n" % (name.encode(), data, id_line.encode())
