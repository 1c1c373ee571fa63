"""gunicorn's worker, for a service of long waits.

Its main thread runs one event loop that has all connections; a few threads answer requests; graphs
run elsewhere (runs/executor.py). A worker that is to stop (SIGTERM, reload, max_requests) sees its
runs to an end in time, whether or not a client waits for them, and then leaves even if a graph
hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import resource
import signal
import socket
import sys
import time
import traceback
from typing import Any, NoReturn, cast

from flask import Flask
from gunicorn.workers.base import Worker as BaseWorker

from runwait import Runwait, forks
from runwait.api import own_routes
from runwait.graphs.config import GraphLoadError
from runwait.graphs.loader import report
from runwait.metrics import files
from runwait.pool import LendingPool
from runwait.server.arrival import Limits
from runwait.server.connections import (
    SPARE_DESCRIPTORS,
    Connections,
    Handler,
    Rules,
    drop_who_does_not_read,
)
from runwait.storage.connection import StorageUnsuitable

log = logging.getLogger("runwait.requests")

# Threads that answer requests; none of them waits for a run, or for a client.
REQUEST_THREADS = 24
# Time for the last answers to be written, where runs had time to end and where they had none.
# The graceful_timeout of gunicorn has more than that on top of the time for runs.
LAST_ANSWERS_SECONDS = 4.0
LAST_WORDS_SECONDS = 1.0
# How often the master is told that the worker lives.
NOTIFY_SECONDS = 1.0
# gunicorn's own exit code for a worker that cannot start: it stops the master too.
BOOT_ERROR = 3
# What the worker does something of its own at.
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGABRT)
# A worker that cannot take the place of another is tried again after so long.
RETRY_SECONDS = 5.0


class Once:
    """What only the first of a master's processes does."""

    def __init__(self) -> None:
        """Made in the master, before it forks."""
        self._taken, self._given = os.pipe()
        os.set_blocking(self._taken, False)
        self.give()

    def give(self) -> None:
        """From now on it may be done, once."""
        self.take()
        os.write(self._given, b".")

    def take(self) -> bool:
        """Whether this process is the first."""
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._taken, 1))
        return False


saying_where = Once()
saying_why_not = Once()


class Worker(BaseWorker):
    """A process that serves requests.

    Attributes:
        place: a small number that no other worker has at the same time; set before the fork.
    """

    place = 0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker cannot do; called by the master."""
        if cfg.is_ssl:
            sys.exit("runwait: certfile, keyfile: TLS has to end in a proxy in front of it")

    @property
    def runwait(self) -> Runwait:
        """What the loaded app is made of."""
        app = cast(Flask, self.wsgi)
        extension: Runwait = app.extensions["runwait"]
        return extension

    def init_process(self) -> None:
        """Called in the process, after the fork; does not return while it serves."""
        self._loop = asyncio.new_event_loop()
        self._early: set[int] = set()
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the app, then start what it needs in this process."""
        try:
            files.enter(str(self.place))
            super().load_wsgi()
            # First, since graphs may use what it opens.
            own_routes.start(cast(Flask, self.wsgi))
            self.runwait.start()
        except StorageUnsuitable as error:
            self._cannot_start(f"runwait: {error}")
        except GraphLoadError as error:
            whole = self.runwait.settings.log_level == "DEBUG"
            self._cannot_start(f"runwait: {report(error, whole=whole)}")
        except SystemExit as error:
            self._cannot_start(str(error.code))
        except Exception:
            if self.is_first:
                raise
            self._cannot_start(traceback.format_exc())
        settings = self.runwait.settings
        rules = Rules(
            limits=Limits(
                head=self.cfg.limit_request_line
                + self.cfg.limit_request_fields * (self.cfg.limit_request_field_size + 2),
                line=self.cfg.limit_request_field_size,
                body=settings.max_request_bytes,
            ),
            request_seconds=settings.request_timeout_seconds,
            idle_seconds=self.cfg.keepalive,
            connections=max(1, min(self.cfg.worker_connections, _descriptors())),
        )
        # Those that the user's own app may keep are none of the others'.
        own = own_routes.OWN_AT_ONCE if self.runwait.http.app else 0
        self._threads = LendingPool(REQUEST_THREADS + own, "request")
        self._threads.start()
        handler = Handler(self, self.wsgi)
        self.connections = Connections(
            rules, settings.heartbeat_seconds, self._loop, self._threads, handler
        )
        log.info("worker serves", extra={"pid": os.getpid()})

    @property
    def is_first(self) -> bool:
        """Whether it is one that the service starts with."""
        return bool(self.age <= self.cfg.workers)

    def _cannot_start(self, why: str) -> NoReturn:
        """Stop the master, if it is about to start; else the other workers go on."""
        if self.is_first:
            if saying_why_not.take():
                print(why, file=sys.stderr, flush=True)
            raise SystemExit(BOOT_ERROR)
        log.error("a worker cannot start, and will be tried again: %s", why)
        deadline = time.monotonic() + RETRY_SECONDS
        while time.monotonic() < deadline and not self._early:
            time.sleep(0.1)
        raise SystemExit(1)

    def init_signals(self) -> None:
        """Have the loop hear signals, and keep those that end a hung worker."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)
        signal.signal(signal.SIGABRT, self.handle_abort)
        # Until the loop runs, a stop is only noted.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda early, _: self._early.add(early))

    def run(self) -> None:
        """Serve; when told to stop, see every run to an end and leave."""
        asyncio.set_event_loop(self._loop)
        hear = self._loop.add_signal_handler
        hear(signal.SIGTERM, self.stop)
        for each in (signal.SIGINT, signal.SIGQUIT):
            hear(each, self.stop_at_once)
        hear(signal.SIGUSR1, self.log.reopen_files)
        for wrapped in self.sockets:
            listener: socket.socket = cast(Any, wrapped).sock
            listener.setblocking(False)
            drop_who_does_not_read(listener, self.connections.rules.request_seconds)
            self._loop.add_reader(listener, self.connections.accept, listener)
        if self._early:
            (self.stop if self._early == {signal.SIGTERM} else self.stop_at_once)()
        forks.leave_to_parent(HEARD, self._close_copies)
        self._live()
        if saying_where.take():
            graphs = ", ".join(self.runwait.service.graphs)
            file = self.runwait.settings.langgraph_config
            log.info("serving %s of %s at %s", graphs, file, ", ".join(map(_url, self.sockets)))
        self._loop.run_forever()

    def count_request(self) -> bool:
        """Count a request; whether its answer is to be the last of its connection."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self._loop.call_soon_threadsafe(self.stop)
            return True
        return not self.alive

    def stop(self) -> None:
        """Take nothing more, give runs time to end, and leave."""
        if self.alive:
            self._stop_accepting()
            seconds = self.runwait.settings.shutdown_grace_seconds
            # Not on a thread of its own: where there are too many, that could not be started.
            self._threads.submit(self._see_to_the_end, seconds)

    def stop_at_once(self) -> None:
        """Leave without giving runs time to end."""
        self._stop_accepting()
        self._threads.submit(self._see_to_the_end, 0.0)

    def _live(self) -> None:
        """Tell the master that the worker lives, and notice if the master does not."""
        self.notify()
        if self.ppid != os.getppid() and self.alive:
            log.info("the master is gone", extra={"pid": os.getpid()})
            self.stop()
        self._loop.call_later(NOTIFY_SECONDS, self._live)

    def _stop_accepting(self) -> None:
        if not self.alive:
            return
        self.alive = False
        for listener in self.sockets:
            self._loop.remove_reader(listener.fileno())
            listener.close()

    def _close_copies(self) -> None:
        """In a child: the copies of sockets that clients are, or will be, connected to."""
        for listener in self.sockets:
            listener.close()
        self.connections.close_copies()

    def _see_to_the_end(self, seconds: float) -> None:
        """On a thread: the loop goes on sending answers meanwhile."""
        try:
            self.runwait.service.stop(seconds, self._take_last_requests)
            deadline = time.monotonic() + (LAST_ANSWERS_SECONDS if seconds else LAST_WORDS_SECONDS)
            while self.connections.answering and time.monotonic() < deadline:
                time.sleep(0.05)
            left = max(LAST_WORDS_SECONDS, deadline - time.monotonic())
            own_routes.stop(cast(Flask, self.wsgi), left)
        except Exception:
            log.exception("fault while stopping")
        finally:
            self.runwait.traces.stop()
            forks.end_children()
            logging.shutdown()
            # Not sys.exit: it would wait for every thread, and a graph may hang on one.
            os._exit(0)

    def _take_last_requests(self, seconds: float) -> None:
        """Serve clients on the connections that they have, for as long as they use them.

        Each is told with its next answer that the connection ends. Who was not told, and finds it
        closed or is refused, takes that for a fault.
        """
        deadline = time.monotonic() + seconds
        while self.connections.used and time.monotonic() < deadline:
            self._loop.call_soon_threadsafe(self.connections.close_unused)
            time.sleep(0.05)


def _url(listener: Any) -> str:
    """Where a listener can be reached from this machine."""
    return re.sub(r"//(0\.0\.0\.0|\[::\]):", "//localhost:", str(listener))


def _descriptors() -> int:
    """How many connections this process may have, after asking for all files that it can open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS gives less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed - SPARE_DESCRIPTORS
