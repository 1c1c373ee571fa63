"""Answers that come in pieces: headers, heartbeats while a run works, then what it gives.

One body has two drivers. The worker of `runwait serve` hands it to the loop that has the client's
connection (server/connections.py), so that a client who waits holds no thread. Under any other WSGI
server, such as Flask's test client, the request's own thread iterates over it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from flask import Response

from runwait.runs.events import Cut, End, Follower


class _Response(Response):
    """Closes once, whether the server closes it or its body."""

    _closed = False

    def close(self) -> None:
        """Close the body, and do what is to be done then."""
        if not self._closed:
            self._closed = True
            super().close()


class Stream:
    """A response's body that follows a run: a heartbeat now and then, and the document.

    Attributes:
        heartbeat: what is sent to keep the connection from looking idle; JSON parsers skip it.
        is_whole: there is nothing to come after what there is.
        is_cut: there will be no document here.
    """

    heartbeat = b"\n"

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
        response = _Response(
            self, headers=headers, mimetype="application/json", direct_passthrough=True
        )
        if self.is_whole:
            response.headers["Content-Length"] = str(sum(map(len, self._pieces)))
        self._on_close = response.close
        return response

    def take(self) -> list[bytes]:
        """What there is to be sent by now, and was not taken before."""
        pieces, self._pieces = self._pieces, []
        return pieces + self._taken()

    def _taken(self) -> list[bytes]:
        pieces = []
        for event in self._follower.take():
            if self.is_whole or self.is_cut:
                break  # what was given first counts
            if isinstance(event, End):
                self.is_whole = True
                pieces.append(event.document)
            elif isinstance(event, Cut):
                self.is_cut = True
        return pieces

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, whenever there is something to be taken."""
        self._follower.listen(wake)

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
                    # An answer without a document must not look whole.
                    raise ConnectionResetError(errno.ECONNRESET, "the answer is elsewhere")
        except GeneratorExit:
            self.client_gone()
            raise
        self.delivered()
