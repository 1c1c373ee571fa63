"""gunicorn's gthread worker, with what a service of long waits needs besides.

- A thread is given a request that is here whole, and never waits for a client to send. gunicorn
  gives one to whoever connects, so that slow senders, on purpose or not, could have them all.
- A request has to arrive within REQUEST_TIMEOUT_SECONDS, and a client has to read. gunicorn has
  neither limit.
- A connection is ended without the main thread waiting for the client to do the same.
- A worker that is to stop (SIGTERM, reload, max_requests) ends its runs in time, whether or
  not a client waits for them, and then leaves even if a graph hangs. gunicorn leaves at once
  where no client is connected, and never where a thread does not return.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ
from typing import Any, cast

from flask import Flask
from gunicorn import http
from gunicorn.http.errors import ConfigurationProblem, InvalidHeader, UnsupportedTransferCoding
from gunicorn.workers.gthread import TConn, ThreadWorker

from app import Runwait
from app.runs.timers import Timer, Timers
from app.storage.connection import StorageUnsuitable
from config.arrival import PIECE_BYTES, Arrival, Limits

log = logging.getLogger("runwait.requests")

# Time for a client to take the answer and end the connection, before that is done for it.
LINGER_SECONDS = 2.0
# Time for the last answers to be written, where runs are given none to end.
LAST_WORDS_SECONDS = 1.0
# gunicorn's own exit code for a worker that cannot start: it stops the master too.
BOOT_ERROR = 3


class Worker(ThreadWorker):
    """A process that serves requests, each on a thread.

    A connection is at any time one of: idle (gunicorn's `keepalived_conns`), with a request
    arriving, with a request on a thread, or ending. All but the thread is on the main thread.
    """

    _quick = False

    def __init__(self, *args: Any, **options: Any) -> None:
        """Called by the master, before the fork."""
        super().__init__(*args, **options)
        self._stops: dict[bool, threading.Thread] = {}
        self._arriving: dict[TConn, tuple[Arrival, Timer]] = {}
        self._handled: dict[TConn, Arrival] = {}
        self._ending: dict[TConn, Timer] = {}

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker cannot do; called by the master."""
        super().check_config(cfg, log)
        if cfg.is_ssl:
            sys.exit("runwait: certfile, keyfile: TLS has to end in a proxy in front of it")

    @property
    def runwait(self) -> Runwait:
        """What the loaded app is made of."""
        app = cast(Flask, self.wsgi)
        extension: Runwait = app.extensions["runwait"]
        return extension

    def load_wsgi(self) -> None:
        """Load the app, then start what it needs in this process."""
        super().load_wsgi()
        settings = self.runwait.settings
        self._limits = Limits(
            head=self.cfg.limit_request_line
            + self.cfg.limit_request_fields * (self.cfg.limit_request_field_size + 2),
            line=self.cfg.limit_request_field_size,
            body=settings.max_request_bytes,
        )
        self._request_seconds = settings.request_timeout_seconds
        for listener in self.sockets:
            _drop_who_does_not_read(listener, settings.request_timeout_seconds)
        try:
            self.runwait.start()
        except StorageUnsuitable as error:
            log.critical("%s", error)
            raise SystemExit(BOOT_ERROR) from None
        log.info("worker serves", extra={"pid": os.getpid()})

    # Connections

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
        return super().handle_request(req, conn)

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
        arrival, timer = self._arriving.pop(conn)
        timer.cancel()
        self.poller.unregister(conn.sock)
        self._hand_over(conn, arrival)

    def _hand_over(self, conn: TConn, arrival: Arrival) -> None:
        """Have the request handled on a thread, which cannot read more than is here."""
        self._handled[conn] = arrival
        conn.parser = http.get_parser(self.cfg, arrival.take(), conn.client)
        conn.data_ready = True
        super().enqueue_req(conn)

    def _end(self, conn: TConn) -> None:
        """End a connection so that the client gets all that was sent (RFC 9112, section 9.6)."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            self._close(conn)
            return
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

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    @property
    def _timers(self) -> Timers:
        return self.runwait.service.timers

    # Stopping

    def notify(self) -> None:
        """Tell the master that the worker lives; called every second, also while it stops."""
        super().notify()
        if not self.alive:
            self._begin_to_stop()

    def is_parent_alive(self) -> bool:
        """Whether the master lives; without it this worker has to stop."""
        if super().is_parent_alive():
            return True
        self.alive = False
        return False

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT, SIGQUIT: stop without giving runs time to end."""
        self._quick = True
        self.handle_exit(sig, frame)

    def run(self) -> None:
        """Serve; when told to stop, see every run to an end and leave."""
        super().run()
        self._begin_to_stop().join(self.cfg.graceful_timeout)
        _leave()

    def _begin_to_stop(self) -> threading.Thread:
        quick = self._quick
        if quick not in self._stops:
            stop = self._stop_at_once if quick else self._stop
            self._stops[quick] = threading.Thread(target=stop, name="stop", daemon=True)
            self._stops[quick].start()
        return self._stops[quick]

    def _stop(self) -> None:
        self.runwait.service.stop(self.runwait.settings.shutdown_grace_seconds)

    def _stop_at_once(self) -> None:
        self.runwait.service.stop(0)
        # For what was answered last to be written.
        time.sleep(LAST_WORDS_SECONDS)
        _leave()


def _drop_who_does_not_read(listener: socket.socket, seconds: float) -> None:
    """Have connections fail whose client takes nothing for so long; they inherit this."""
    whole, part = divmod(seconds, 1)
    timeout = struct.pack("ll", int(whole), int(part * 1_000_000))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
    if listener.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        # What the kernel still has to send after that is not kept for ever either.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


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


def _leave() -> None:
    logging.shutdown()
    # Not sys.exit: it would wait for every thread, and a graph may hang on one.
    os._exit(0)
