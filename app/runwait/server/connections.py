"""A gthread worker whose clients hold no thread and no place that somebody else needs.

- A thread is given a request that is here whole, and never waits for a client to send. gunicorn
  gives one to whoever connects, so that slow senders, on purpose or not, could have them all.
- A request has to arrive in time, and a client has to read. gunicorn has no limit for either.
- A connection is ended without the main thread waiting for the client to do the same.
- Where there is no room for a new connection, one goes that nobody works on. gunicorn lets
  clients wait until its idle ones have timed out, and ends the process if it runs out of file
  descriptors.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import socket
import struct
import sys
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn import http
from gunicorn.http.errors import ConfigurationProblem, InvalidHeader, UnsupportedTransferCoding
from gunicorn.workers.gthread import TConn, ThreadWorker

from runwait.api import clients
from runwait.runs.timers import Timer, Timers
from runwait.server.arrival import PIECE_BYTES, Arrival, Limits

log = logging.getLogger("runwait.requests")

# Time for a client to take the answer and end the connection, before that is done for it.
LINGER_SECONDS = 2.0
# Files and connections that are left to the graphs, whatever the clients do.
SPARE_DESCRIPTORS = 100


class PatientWorker(ThreadWorker):
    """A worker that waits for its clients on the main thread alone.

    A connection is at any time one of: idle (gunicorn's `keepalived_conns`), with a request
    arriving, with a request on a thread, or ending.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Called by the master, before the fork."""
        super().__init__(*args, **options)
        self._arriving: dict[TConn, tuple[Arrival, Timer]] = {}
        self._handled: dict[TConn, Arrival] = {}
        self._ending: dict[TConn, Timer] = {}

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker cannot do; called by the master."""
        super().check_config(cfg, log)
        if cfg.is_ssl:
            sys.exit("runwait: certfile, keyfile: TLS has to end in a proxy in front of it")

    def prepare(self, timers: Timers, request_seconds: float, max_request_bytes: int) -> None:
        """Set the limits, before the first connection is accepted.

        Args:
            timers: the process's timers.
            request_seconds: how long a request may take to arrive, from its first byte to its
                last, and a client to take anything of its answer.
            max_request_bytes: how large a body the app takes.
        """
        self._timers = timers
        self._request_seconds = request_seconds
        self._limits = Limits(
            head=self.cfg.limit_request_line
            + self.cfg.limit_request_fields * (self.cfg.limit_request_field_size + 2),
            line=self.cfg.limit_request_field_size,
            body=max_request_bytes,
        )
        room = _descriptors() - SPARE_DESCRIPTORS
        self.worker_connections = max(1, min(self.worker_connections, room))
        for listener in self.sockets:
            _drop_who_does_not_read(listener, request_seconds)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, after making room for it."""
        while self.nr_conns >= self.worker_connections - 1 and self._drop_one():
            pass
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self.worker_connections = max(1, self.nr_conns - SPARE_DESCRIPTORS)
            log.warning(
                "no file descriptor is left for a client",
                extra={"connections_from_now_on": self.worker_connections},
            )

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Something came on an idle connection."""
        if conn in self.keepalived_conns:  # else it was dropped with the same batch of events
            super().on_client_socket_readable(conn, client)

    def enqueue_req(self, conn: TConn) -> None:
        """A connection is new, or something came on an idle one."""
        data = _received(conn.sock)
        if data is None:
            self._keep_idle(conn)
        elif data:
            self._begin(conn, data)
        else:
            self._close(conn)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Have the app answer a request, on its thread."""
        if not self._handled[conn].whole:
            # What comes next on the connection is not the beginning of another one.
            req.force_close()
        try:
            return super().handle_request(req, conn)
        except OSError as error:
            # The client is gone, or took nothing for long; gunicorn takes some of it for a fault.
            log.debug("client lost", extra={"error": str(error)})
            return False

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what is not valid HTTP."""
        if isinstance(exc, UnsupportedTransferCoding | ConfigurationProblem):
            # gunicorn answers these with a 5xx, and it is the client that sent them.
            exc = InvalidHeader(str(exc), req=req)
        super().handle_error(req, client, addr, exc)

    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        """A request was handled; called on the main thread."""
        rest = self._handled.pop(conn).rest
        if fs.cancelled() or fs.exception() is not None or not fs.result():
            self._end(conn)
        elif rest:
            self._begin(conn, rest)
        else:
            super().finish_request(conn, fs)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Whether the connection can be used again; gunicorn would also wait for the client."""
        parser: Any = conn.parser
        try:
            # What the app did not read is in memory, and may be malformed.
            return keepalive and bool(parser.finish_body())
        except Exception:
            return False

    def _keep_idle(self, conn: TConn) -> None:
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        readable = partial(self.on_client_socket_readable, conn)
        self.poller.register(conn.sock, EVENT_READ, readable)

    def _begin(self, conn: TConn, data: bytes) -> None:
        """A request begins to arrive."""
        arrival = Arrival(self._limits)
        arrival.feed(data)
        if arrival.whole or arrival.doomed:
            self._hand_over(conn, arrival)
            return
        conn.set_timeout()
        late = partial(self.method_queue.defer, self._arrive_late, conn, arrival)
        self._arriving[conn] = arrival, self._timers.after(self._request_seconds, late)
        self.poller.register(conn.sock, EVENT_READ, partial(self._go_on, conn))
        _continue(conn, arrival)

    def _go_on(self, conn: TConn, sock: socket.socket) -> None:
        """More of a request came, or its client ended it."""
        if conn not in self._arriving:
            return  # it was given up on just before, with the same batch of events
        arrival, _ = self._arriving[conn]
        data = _received(sock)
        if data:
            arrival.feed(data)
        if arrival.whole or arrival.doomed or data == b"":
            self._arrived(conn)
        else:
            _continue(conn, arrival)

    def _arrive_late(self, conn: TConn, arrival: Arrival) -> None:
        if conn in self._arriving and self._arriving[conn][0] is arrival:
            self._arrived(conn)

    def _arrived(self, conn: TConn) -> None:
        """No more of the request is waited for."""
        self._hand_over(conn, self._stop_arriving(conn))

    def _stop_arriving(self, conn: TConn) -> Arrival:
        arrival, timer = self._arriving.pop(conn)
        timer.cancel()
        self.poller.unregister(conn.sock)
        return arrival

    def _hand_over(self, conn: TConn, arrival: Arrival) -> None:
        """Have the request handled on a thread, which cannot read more than is here."""
        self._handled[conn] = arrival
        conn.parser = http.get_parser(self.cfg, arrival.take(), conn.client)
        conn.data_ready = True
        super().enqueue_req(conn)

    def _end(self, conn: TConn) -> None:
        """End a connection so that the client gets all that was sent (RFC 9112, section 9.6)."""
        if clients.ends_with_reset(conn.sock):  # the answer was cut, and must not look whole
            self._close(conn)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            self._close(conn)
            return
        conn.set_timeout()
        self.poller.register(conn.sock, EVENT_READ, partial(self._drain, conn))
        drop = partial(self.method_queue.defer, self._drop, conn)
        self._ending[conn] = self._timers.after(LINGER_SECONDS, drop)

    def _drain(self, conn: TConn, sock: socket.socket) -> None:
        if _received(sock) == b"":
            self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        timer = self._ending.pop(conn, None)
        if timer is not None:
            timer.cancel()
            self.poller.unregister(conn.sock)
            self._close(conn)

    def _drop_one(self) -> bool:
        """Drop the connection that has done nothing for longest; False if all are worked on."""
        kinds = (self._ending, self._arriving, self.keepalived_conns)
        oldest = [next(iter(each)) for each in kinds if each]
        if not oldest:
            return False
        conn = min(oldest, key=lambda each: each.timeout or 0)
        if conn in self._ending:
            self._drop(conn)
            return True
        if conn in self._arriving:
            self._stop_arriving(conn)
        else:
            self.keepalived_conns.popleft()
            self.poller.unregister(conn.sock)
        self._close(conn)
        return True

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def _drop_who_does_not_read(listener: socket.socket, seconds: float) -> None:
    """Have connections fail whose client takes nothing for so long; they inherit this."""
    whole, part = divmod(seconds, 1)
    timeout = struct.pack("ll", int(whole), int(part * 1_000_000))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
    if listener.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        # What the kernel still has to send after that is not kept for ever either.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def _descriptors() -> int:
    """How many files and connections this process may have open, after asking for all it can."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS gives less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


def _received(connection: socket.socket) -> bytes | None:
    """What came, empty if nothing more will; None if nothing is there now."""
    try:
        return connection.recv(PIECE_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _continue(conn: TConn, arrival: Arrival) -> None:
    if arrival.expects_continue:
        arrival.expects_continue = False
        with contextlib.suppress(OSError):  # it will be noticed when the answer is sent
            conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n", socket.MSG_DONTWAIT)
