"""gunicorn's worker, with what a service of long waits needs besides.

A worker that is to stop (SIGTERM, reload, max_requests) ends its runs in time, whether or not a
client waits for them, and then leaves even if a graph hangs. gunicorn leaves at once where no
client is connected, and never where a thread does not return.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any, cast

from flask import Flask

from runwait import Runwait
from runwait.server.connections import PatientWorker
from runwait.storage.connection import StorageUnsuitable

log = logging.getLogger("runwait.requests")

# Time for the last answers to be written, where runs are given none to end.
LAST_WORDS_SECONDS = 1.0
# gunicorn's own exit code for a worker that cannot start: it stops the master too.
BOOT_ERROR = 3


class Worker(PatientWorker):
    """A process that serves requests, each on a thread."""

    _quick = False

    def __init__(self, *args: Any, **options: Any) -> None:
        """Called by the master, before the fork."""
        super().__init__(*args, **options)
        self._stops: dict[bool, threading.Thread] = {}

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
        self.prepare(
            self.runwait.service.timers,
            settings.request_timeout_seconds,
            settings.max_request_bytes,
        )
        try:
            self.runwait.start()
        except StorageUnsuitable as error:
            log.critical("%s", error)
            raise SystemExit(BOOT_ERROR) from None
        log.info("worker serves", extra={"pid": os.getpid()})

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


def _leave() -> None:
    logging.shutdown()
    # Not sys.exit: it would wait for every thread, and a graph may hang on one.
    os._exit(0)
