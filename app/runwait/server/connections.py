"""The clients' connections, all of them on one event loop, none of them on a thread.

A request is given to a thread once it is here whole, and the thread never waits for the client:
what it makes of the request, the loop sends. An answer that comes in pieces (api/stream.py) is
left to the loop from its beginning, so that thousands of clients can wait while threads only do
work.

A connection is at any time one of

- idle: nothing of a next request is here, for `keepalive` seconds, or up to twice that;
- arriving: a request has begun, and has to be here whole in time;
- answering: a thread has its request, or its answer comes in pieces;
- closing: all is sent, and the client has a moment to take it (RFC 9112, section 9.6).

Whoever reads nothing of an answer for long is dropped. Where there is no room for a new connection,
the one goes that has done nothing for longest; never one that is being answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import select
import socket
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

from gunicorn import http
from gunicorn.http import wsgi
from gunicorn.http.errors import (
    ConfigurationProblem,
    InvalidHeader,
    NoMoreData,
    UnsupportedTransferCoding,
)
from gunicorn.http.wsgi import Response

from runwait.api.stream import DEFERS, Stream
from runwait.logs import about
from runwait.pool import LendingPool, putting_off
from runwait.runs.events import AT_ONCE_SECONDS
from runwait.serialization import dumps
from runwait.server.arrival import PIECE_BYTES, Arrival, Limits

log = logging.getLogger("runwait.requests")

# Time for a client to take the answer and close the connection, before that is done for it.
LINGER_SECONDS = 2.0
# What a client may send ahead of its next answer, in bytes. More is left in the socket.
AHEAD_BYTES = 65_536
# What is given to the kernel at once, of what it did not take at first.
WRITE_BYTES = 262_144
# A client that had an answer so long ago, in seconds, is not taken to be about to ask again.
PAUSE_SECONDS = 0.25
# Seconds until it is tried again to accept a connection for which no file descriptor was left.
REST_SECONDS = 1.0
# Files and connections that are left to the graphs, whatever the clients do.
SPARE_DESCRIPTORS = 100

# close() sends a reset and drops what was not sent yet; and the default.
_RESET, _FINISH = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
# One for all connections that have nothing to send: thousands may wait.
_NOTHING = memoryview(b"")
_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


@dataclass(frozen=True)
class Rules:
    """What clients may do.

    Attributes:
        limits: of a request that arrives.
        request_seconds: how long a request may take from its first byte to its last, and a client
            to take anything of its answer.
        idle_seconds: how long a connection is kept without a request.
        connections: how many there may be at once.
    """

    limits: Limits
    request_seconds: float
    idle_seconds: float
    connections: int


class Deadlines:
    """Connections of one state, in the order in which they came to it.

    All of a state have the same time to it, so the first is due first.
    """

    def __init__(self, seconds: float, late: Callable[[Connection], None]) -> None:
        self.seconds = seconds
        self.late = late
        # Not a dict: to find its first it passes over all that were taken from before that.
        self.since: OrderedDict[Connection, float] = OrderedDict()

    def add(self, connection: Connection) -> None:
        """The connection has this state from now on."""
        self.since.pop(connection, None)
        self.since[connection] = time.monotonic()

    def discard(self, connection: Connection) -> None:
        """It has another."""
        self.since.pop(connection, None)

    def first(self) -> tuple[Connection, float] | None:
        """The one that has had it longest, and since when."""
        return next(iter(self.since.items()), None)


class Connections:
    """All connections of a process."""

    def __init__(
        self,
        rules: Rules,
        heartbeat_seconds: float,
        loop: asyncio.AbstractEventLoop,
        threads: LendingPool,
        handle: Callable[[Connection, Arrival], None],
    ) -> None:
        """Prepare.

        Args:
            rules: what clients may do.
            heartbeat_seconds: the pause between the heartbeats of an answer in pieces.
            loop: the loop that has the sockets; all methods are called on it.
            threads: where requests are answered.
            handle: answers a request, on one of the threads.
        """
        self.rules = rules
        self.loop = loop
        self._threads = threads
        self._handle = handle
        self.open: set[Connection] = set()
        seconds = rules.request_seconds
        # All that are open: those that are being answered leave it to the others to be idle.
        self.idle = Deadlines(rules.idle_seconds, Connection.close_if_idle)
        self.arriving = Deadlines(seconds, Connection.arrived)
        self.closing = Deadlines(LINGER_SECONDS, Connection.close)
        self.unread = Deadlines(seconds, Connection.check_progress)
        self.beating = Deadlines(heartbeat_seconds, Connection.beat)
        self._all = (self.idle, self.arriving, self.closing, self.unread, self.beating)
        self._timer: asyncio.TimerHandle | None = None
        self._most = rules.connections
        # Answers in one piece that began to be waited for, in that order: threads add them.
        self._early: deque[tuple[float, Connection]] = deque()
        self._lock = threading.Lock()
        # Requests that a thread has, or is to have, and whether the loop looks for early answers.
        self._handed = 0
        self._looking = False

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, after making room for it."""
        while len(self.open) >= self._most and self._drop_one():
            pass
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._most = max(1, len(self.open) - SPARE_DESCRIPTORS)
                log.warning(
                    "no file descriptor is left for a client",
                    extra={"connections_from_now_on": self._most},
                )
                if not self._drop_one():
                    # The client who waits to be accepted would wake the loop again at once.
                    self.loop.remove_reader(listener)
                    self.loop.call_later(REST_SECONDS, self._go_on_accepting, listener)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Connection(self, client, address, listener.getsockname())

    def _go_on_accepting(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:  # it was not closed meanwhile, by a stop
            self.loop.add_reader(listener, self.accept, listener)

    def give_to_thread(self, connection: Connection, arrival: Arrival) -> None:
        """Have a request answered."""
        with self._lock:
            self._handed += 1
        if not self._looking:
            self._looking = True
            self.loop.call_later(AT_ONCE_SECONDS, self._look_for_early)
        self._threads.submit(self._answer, connection, arrival)

    def _answer(self, connection: Connection, arrival: Arrival) -> None:
        """Answer a request, and do what follows on it, such as its run, if others are left to
        answer requests."""
        with self._threads.lent() as may_go_on:
            if not may_go_on:
                self._do_handle(connection, arrival)
                return
            with putting_off() as put_off:
                self._do_handle(connection, arrival)
                follows = put_off()
            if follows is not None:
                follows()

    def _do_handle(self, connection: Connection, arrival: Arrival) -> None:
        try:
            self._handle(connection, arrival)
        finally:
            with self._lock:
                self._handed -= 1

    def give_up_in_time(self, connection: Connection, since: float) -> None:
        """Called by a thread: an answer in one piece is waited for, but not for long."""
        self._early.append((since, connection))

    def _look_for_early(self) -> None:
        """Give up the answers that did not come at once.

        The loop looks now and then, for as long as there may be any, so that no thread has to wake
        it for one.
        """
        # In this order: a thread adds what it has before it has nothing.
        self._looking = bool(self._handed or self._early)
        if self._looking:
            self.loop.call_later(AT_ONCE_SECONDS, self._look_for_early)
        moment = time.monotonic() - AT_ONCE_SECONDS
        while self._early and self._early[0][0] <= moment:
            _, connection = self._early.popleft()
            if connection.is_early_since(moment):
                self.on_thread(connection.give_up_early)

    def on_thread(self, work: Callable[[], None]) -> None:
        """Do something short that may block."""
        self._threads.submit(work)

    def until_due(self, deadlines: Deadlines, connection: Connection) -> None:
        """Look after a connection that is to leave a state in time."""
        empty = not deadlines.since
        deadlines.add(connection)
        if empty:
            self._set_timer()

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self.open.discard(connection)
        for each in self._all:
            each.discard(connection)

    def close_copies(self) -> None:
        """In a child of this process: close its copies of the sockets, which clients keep."""
        for connection in self.open:
            connection.close_copy()

    def _set_timer(self) -> None:
        due = [first[1] + each.seconds for each in self._all if (first := each.first()) is not None]
        if not due:
            return
        # The loop's clock is the monotonic one.
        if self._timer is not None:
            if self._timer.when() <= min(due):
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(min(due), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        for each in self._all:
            while (first := each.first()) is not None and first[1] + each.seconds <= now:
                connection = first[0]
                each.discard(connection)
                try:
                    each.late(connection)
                except Exception:
                    log.exception("fault of a connection")
                    connection.reset()
        self._set_timer()

    def _drop_one(self) -> bool:
        """Drop the connection that has done nothing for longest; False if all are worked on."""
        for _ in range(len(self.idle.since)):
            first = self.idle.first()
            if first is None or not first[0].was_used_since(first[1]):
                break
            self.idle.add(first[0])
        else:
            return False
        oldest = [
            (first[1], id(first[0]), first[0])
            for each in (self.closing, self.arriving, self.idle)
            if (first := each.first()) is not None
        ]
        if not oldest:
            return False
        min(oldest)[2].close()
        return True

    def close_unused(self) -> None:
        """End connections whose clients ask for nothing, so that they connect to another process.

        Not where a client may just be about to ask: it would take the end for a fault.
        """
        moment = time.monotonic() - PAUSE_SECONDS
        for each in list(self.open):
            each.close_if_unused_since(moment)

    @property
    def used(self) -> bool:
        """Whether there is a connection of which the client knows no end yet."""
        return any(not each.is_closing for each in list(self.open))

    @property
    def answering(self) -> bool:
        """Whether an answer is not sent yet."""
        return any(each.is_answering for each in list(self.open))


class Connection:
    """One client's connection.

    While a thread has its request, the loop reads what comes behind it and notices the client's
    end, but leaves all else to the thread: it alone sends, and nobody closes the socket meanwhile.
    """

    __slots__ = (
        "_ahead",
        "_all",
        "_answering",
        "_arrival",
        "_closing",
        "_early",
        "_gone",
        "_left",
        "_lock",
        "_out",
        "_outlet",
        "_reading",
        "_response",
        "_reusable",
        "_sent",
        "_socket",
        "_stream",
        "_used",
        "local",
        "peer",
    )

    def __init__(
        self, connections: Connections, client: socket.socket, peer: Any, local: Any
    ) -> None:
        self.peer = peer
        self.local = local
        self._all = connections
        self._socket = client
        self._used = time.monotonic()
        self._arrival: Arrival | None = None
        self._answering = False
        # What came after the request that is being answered.
        self._ahead = b""
        # What the kernel did not take yet, and what is to be done once it has.
        self._out = _NOTHING
        self._sent: Callable[[], None] | None = None
        self._left = 0
        # An answer in pieces.
        self._stream: Stream | None = None
        self._response: Response | None = None
        self._outlet: Outlet | None = None
        self._reusable = False
        # One that may be whole in a moment, and is sent by whoever makes it so.
        self._early: Coming | None = None
        self._lock = threading.Lock()
        self._closing = False
        self._gone = False
        self._reading = True
        connections.open.add(self)
        connections.loop.add_reader(client, self._read)
        connections.until_due(connections.idle, self)

    @property
    def is_answering(self) -> bool:
        """Whether it has a request that is not answered yet."""
        return self._answering

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is read of it."""
        return self._closing

    def was_used_since(self, moment: float) -> bool:
        """Whether it was, or is being, worked on, so that it has not been idle since then."""
        return self._answering or self._arrival is not None or self._used > moment

    # Reading

    def _read(self) -> None:
        """Something came, or the client will send no more."""
        try:
            data = self._socket.recv(PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._end_of_client()
        elif self._closing:
            return  # nobody reads it, but the client has to be let send it
        elif not self._answering:
            self._feed(data)
        else:
            self._ahead += data
            if len(self._ahead) > AHEAD_BYTES:
                self._stop_reading()
            if not self.is_answering:  # a thread has just finished, and did not see this
                self._go_on()

    def _end_of_client(self) -> None:
        """The client will send no more; for an answer in pieces, that is: it went away."""
        self._gone = True
        self._stop_reading()
        if self._answering:
            if self._stream is not None and not self._stream.is_whole:
                self._leave_stream()
        elif self._arrival is not None:
            self.arrived()
        else:
            self.close()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._all.loop.remove_reader(self._socket)

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._all.loop.add_reader(self._socket, self._read)

    def _feed(self, data: bytes) -> None:
        data, self._ahead = self._ahead + data, b""
        arrival = self._arrival
        if arrival is None:
            arrival = Arrival(self._all.rules.limits)
            arrival.feed(data)
            self._arrival = arrival
            if not (arrival.whole or arrival.doomed):
                self._all.until_due(self._all.arriving, self)
        else:
            arrival.feed(data)
        if arrival.whole or arrival.doomed:
            self.arrived()
        elif arrival.expects_continue:
            arrival.expects_continue = False
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n", None)

    def arrived(self) -> None:
        """No more of the request is waited for: it is here, it is refused, or it is too late."""
        arrival, self._arrival = self._arrival, None
        assert arrival is not None
        self._all.arriving.discard(self)
        self._answering = True
        self._all.give_to_thread(self, arrival)

    # Answers. The first four are called by threads.

    def answer(
        self, data: bytes, ahead: bytes, *, keep: bool, stream: Stream | None = None
    ) -> None:
        """Send a whole answer.

        Args:
            data: what to send.
            ahead: what had come after the request.
            keep: whether the connection can be used again.
            stream: the body that all of it was taken from, to be told when it is sent.
        """
        sent = self._try_to_send(data)
        if sent < len(data) or ahead or not keep or self._gone:
            self._all.loop.call_soon_threadsafe(self._answer, data[sent:], ahead, keep, stream)
            return
        # Nothing is left for the loop to do, which need not be woken.
        if stream is not None:
            stream.delivered()
            stream.close()
        self._used = time.monotonic()
        self._answering = False
        if self._ahead or self._gone:
            self._all.loop.call_soon_threadsafe(self._go_on)

    def answer_soon(self, coming: Coming) -> None:
        """Send an answer in one piece: by the thread that makes it whole, if that is soon."""
        self._early = coming
        self._all.give_up_in_time(self, coming.since)
        coming.stream.listen(self._answer_if_whole)

    def _answer_if_whole(self) -> None:
        """Called by any thread when there is something of an answer in one piece."""
        with self._lock:
            if (early := self._early) is None:
                return  # it is left to the loop
            pieces = early.stream.take()
            if not (early.stream.is_whole or early.stream.is_cut):
                return
            self._early = None
        if early.stream.is_cut:
            self.answer_in_pieces(early)
        else:
            self._answer_whole(early, b"".join(pieces))

    def _answer_whole(self, coming: Coming, body: bytes) -> None:
        """Send an answer of which all is there; it has a length."""
        response = coming.response
        response.response_length, response.chunked = len(body), False
        response.headers = [*response.headers, ("Content-Length", str(len(body)))]
        response.write(body)
        keep = coming.keep and not response.should_close()
        self.answer(coming.outlet.take(), coming.ahead, keep=keep, stream=coming.stream)

    def is_early_since(self, moment: float) -> bool:
        """Whether an answer in one piece has been waited for since then."""
        early = self._early
        return early is not None and early.since <= moment

    def give_up_early(self) -> None:
        """Called by a thread: send the answer as its pieces come."""
        with self._lock:
            early, self._early = self._early, None
        if early is not None:
            early.stream.lasts()
            self.answer_in_pieces(early)

    def answer_in_pieces(self, coming: Coming) -> None:
        """Send an answer as its pieces come: what there is now, and the rest on the loop."""
        body = b"".join(coming.stream.take())
        if coming.stream.is_whole:
            self._answer_whole(coming, body)
            return
        # Until all is sent, an end of this process is a reset for the client: without a length and
        # chunks, as in HTTP/1.0, a cut answer could not be told from a whole one.
        self._linger(_RESET)
        coming.response.write(body)
        data = coming.outlet.take()
        sent = self._try_to_send(data)
        self._all.loop.call_soon_threadsafe(self._begin_stream, coming, data[sent:])

    def _try_to_send(self, data: bytes) -> int:
        """Have the kernel take some of it; how much it took."""
        try:
            return self._socket.send(data) if data else 0
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._gone = True
            return 0

    def _answer(self, data: bytes, ahead: bytes, keep: bool, stream: Stream | None) -> None:
        """Send what is left of an answer."""
        self._ahead = ahead + self._ahead
        self._stream = stream
        self._reusable = keep
        self._send(data, self._all_sent)

    def _begin_stream(self, coming: Coming, data: bytes) -> None:
        """Send what is left of what there was, and what comes."""
        self._ahead = coming.ahead + self._ahead
        stream = self._stream = coming.stream
        self._response, self._outlet = coming.response, coming.outlet
        self._reusable = coming.keep
        if self._gone:
            self._leave_stream()
            return
        self._all.until_due(self._all.beating, self)
        self._send(data, None)
        if self._stream is stream:
            stream.listen(self._wake)
            self._send_pieces()

    def _wake(self) -> None:
        """Called by any thread when the stream has something to send."""
        self._all.loop.call_soon_threadsafe(self._send_pieces)

    def _send_pieces(self) -> None:
        """Send what the stream has by now, unless the client has yet to take what it had before."""
        stream, response, outlet = self._stream, self._response, self._outlet
        if stream is None or response is None or outlet is None or self._out:
            return
        if pieces := stream.take():
            response.write(b"".join(pieces))
        if stream.is_cut:
            self._leave_stream()
        elif stream.is_whole:
            response.close()
            self._reusable = self._reusable and not response.should_close()
            self._response = self._outlet = None
            self._all.beating.discard(self)
            self._send(outlet.take(), self._all_pieces_sent)
        elif data := outlet.take():
            self._send(data, None)

    def beat(self) -> None:
        """Keep routers and proxies from taking the connection for dead."""
        stream, response, outlet = self._stream, self._response, self._outlet
        if stream is None or response is None or outlet is None:
            return
        if not self._reading and _is_gone(self._socket):
            self._gone = True
            self._leave_stream()
            return
        self._all.until_due(self._all.beating, self)
        if not self._out:
            response.write(stream.heartbeat)
            self._send(outlet.take(), None)

    def _all_pieces_sent(self) -> None:
        self._linger(_FINISH)
        self._all_sent()

    def _all_sent(self) -> None:
        """An answer was sent."""
        self._end_stream(gone=False)
        self._used = time.monotonic()
        if self._gone or not self._reusable:
            self._close_gently()
            return
        self._answering = False
        self._go_on()

    def _go_on(self) -> None:
        """Look what came while the last request was answered."""
        if self._answering or self._closing or self not in self._all.open:
            return
        if self._gone:
            if self._ahead:
                self._feed(b"")
            if self._arrival is not None:
                self.arrived()
            elif not self._answering:
                self.close()
            return
        self._read_on()
        if self._ahead:
            self._feed(b"")

    def _leave_stream(self) -> None:
        """End an answer that has no end, so that nobody takes it for whole."""
        self._end_stream(gone=self._gone)
        self.reset()

    def _end_stream(self, *, gone: bool) -> None:
        stream, self._stream = self._stream, None
        self._response = self._outlet = None
        self._all.beating.discard(self)
        if stream is None:
            return
        try:
            if gone:
                stream.client_gone()
            elif stream.is_whole:
                stream.delivered()
        finally:
            stream.close()

    # Sending, on the loop

    def _send(self, data: bytes, then: Callable[[], None] | None) -> None:
        """Send, and do something once all is sent."""
        if self._out:
            self._left += len(data)
            self._out = memoryview(bytes(self._out) + data)
            self._sent = then
            return
        try:
            sent = self._socket.send(data) if data else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._lost()
            return
        if sent == len(data):
            if then is not None:
                then()
            return
        self._out, self._sent = memoryview(data)[sent:], then
        self._left = len(self._out)
        self._all.loop.add_writer(self._socket, self._write)
        self._all.until_due(self._all.unread, self)

    def _write(self) -> None:
        """The kernel takes more of what is to be sent."""
        try:
            sent = self._socket.send(self._out[:WRITE_BYTES])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lost()
            return
        self._out = self._out[sent:]
        if not self._out:
            self._all.loop.remove_writer(self._socket)
            self._all.unread.discard(self)
            then, self._sent = self._sent, None
            if then is not None:
                then()
            else:
                self._send_pieces()

    def check_progress(self) -> None:
        """The client read nothing for long, or too little to show."""
        if len(self._out) >= self._left:
            self._lost()
            return
        self._left = len(self._out)
        self._all.until_due(self._all.unread, self)

    def _lost(self) -> None:
        """The client is gone, or will not read."""
        self._gone = True
        self._leave_stream()

    # Ending

    def _close_gently(self) -> None:
        """Let the client have all that was sent, although it may have sent what nobody read."""
        self._closing = True
        self._answering = False
        if self._gone:
            self.close()
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            self.close()
            return
        self._all.until_due(self._all.closing, self)
        self._read_on()

    def close_if_idle(self) -> None:
        """It was opened, or found to be used, as long ago as a connection may be idle."""
        since = time.monotonic() - self._all.idle.seconds
        if self.was_used_since(since) or self._closing:
            self._all.until_due(self._all.idle, self)
        else:
            self.close()

    def close_if_unused_since(self, moment: float) -> None:
        """End it in an orderly way, unless it was, or is being, worked on since then."""
        if not (self._closing or self.was_used_since(moment)):
            self._close_gently()

    def close(self) -> None:
        """Close it. Never while a thread has its request: its number may be given to another."""
        self._all.forget(self)
        self._stop_reading()
        if self._out:
            self._out = _NOTHING
            self._all.loop.remove_writer(self._socket)
        self._socket.close()

    def close_copy(self) -> None:
        """Close this process's socket, which another process has too."""
        self._socket.close()

    def reset(self) -> None:
        """Close it with a reset: what was sent is no whole answer."""
        self._answering = False
        self._linger(_RESET)
        self.close()

    def _linger(self, how: bytes) -> None:
        with contextlib.suppress(OSError):  # the client is gone already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)


@dataclass(frozen=True)
class Coming:
    """An answer that is not whole yet.

    Attributes:
        response, outlet: what writes it, and where to.
        stream: its body.
        ahead: what had come after the request.
        keep: whether the connection can be used again.
        since: when it began to be waited for, on the monotonic clock.
    """

    response: Response
    outlet: Outlet
    stream: Stream
    ahead: bytes
    keep: bool
    since: float = field(default_factory=time.monotonic)


class Outlet:
    """What gunicorn takes for the client's socket, while it makes an answer."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def take(self) -> bytes:
        """What was sent since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def sendall(self, data: bytes) -> None:
        """Called with each piece of an answer."""
        self._pieces.append(data)

    def send(self, data: bytes) -> int:
        """Called with `100 Continue` alone, which the connection sent when it was time."""
        return len(data)

    def gettimeout(self) -> float:
        """It never blocks."""
        return 0.0


class Handler:
    """Answers requests with a WSGI application, on threads."""

    def __init__(self, worker: Any, application: Callable[..., Iterable[bytes]]) -> None:
        """Prepare.

        Args:
            worker: gunicorn's, for its configuration and its answers to what is not valid HTTP.
            application: the WSGI application.
        """
        self._worker = worker
        self._cfg = worker.cfg
        self._application = application

    def __call__(self, connection: Connection, arrival: Arrival) -> None:
        """Answer a request that is here as far as it will ever be."""
        outlet = Outlet()
        request = stream = None
        keep = False
        try:
            parser = http.get_parser(self._cfg, arrival.take(), connection.peer)
            request = next(parser)
            if not arrival.whole or self._worker.count_request():
                # What comes next on the connection is not the beginning of another request.
                request.force_close()
            client = cast(socket.socket, outlet)
            response, environ = wsgi.create(
                request, client, connection.peer, connection.local, self._cfg
            )
            environ["wsgi.multithread"] = environ[DEFERS] = True
            body = self._application(environ, response.start_response)
            if isinstance(body, Stream) and not body.is_whole:
                keep = arrival.whole and _is_read(parser)
                coming = Coming(response, outlet, body, arrival.rest, keep)
                if body.in_one_piece:
                    connection.answer_soon(coming)
                else:
                    connection.answer_in_pieces(coming)
                body.go_on()
                return
            if isinstance(body, Stream):
                stream = body
                for piece in body.take():
                    response.write(piece)
                response.close()
            else:
                _write_all(response, body)
            keep = not response.should_close() and _is_read(parser)
        except (StopIteration, NoMoreData):
            pass  # there was nothing to be answered
        except BaseException as error:  # SystemExit of a graph's too: nobody else would answer
            if isinstance(error, UnsupportedTransferCoding | ConfigurationProblem):
                # gunicorn answers these with a 5xx, and it is the client that sent them.
                error = InvalidHeader(str(error), req=request)
            outlet = self._refuse(connection, request, error)
        connection.answer(outlet.take(), arrival.rest, keep=keep, stream=stream)

    def _refuse(self, connection: Connection, request: Any, error: BaseException) -> Outlet:
        """Answer what is no valid HTTP as the API answers errors; gunicorn knows the status."""
        theirs, request_id = Outlet(), str(uuid4())
        token = about.set({"request_id": request_id})
        self._worker.handle_error(request, theirs, connection.peer, error)
        about.reset(token)
        status, _, reason = theirs.take().partition(b"\r\n")[0].partition(b" ")[2].partition(b" ")
        told = f": {error}" if status < b"500" and str(error) else ""
        body = dumps({"detail": f"{reason.decode()}{told}"})
        head = (
            b"HTTP/1.1 %b %b\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"X-Request-ID: %b\r\nContent-Length: %d\r\n\r\n"
        )
        outlet = Outlet()
        outlet.sendall(head % (status, reason, request_id.encode(), len(body)) + body)
        return outlet


def _write_all(response: Response, body: Iterable[bytes]) -> None:
    try:
        for piece in body:
            response.write(piece)
        response.close()
    finally:
        if hasattr(body, "close"):
            body.close()


def _is_read(parser: Any) -> bool:
    """Whether the request's body was read to its end, or is well formed as far as it was not."""
    try:
        return bool(parser.finish_body())
    except Exception:
        return False


def _is_gone(connection: socket.socket) -> bool:
    """Whether the peer closed its end, although what it sent before is not read."""
    now = select.poll()
    now.register(connection, _GONE)
    return bool(now.poll(0))


def drop_who_does_not_read(listener: socket.socket, seconds: float) -> None:
    """Have the kernel drop connections whose client acknowledges nothing for so long.

    They inherit this from the listener. It counts for what this process has handed over already.
    """
    if listener.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
