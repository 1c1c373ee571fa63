"""One line in the log for each request, once it is answered."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

log = logging.getLogger("runwait.requests")


def register(app: Flask) -> None:
    """Have the app log its requests."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.monotonic()


def _end(response: Response) -> Response:
    began = g.get("began", time.monotonic())
    entry = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        **{name: g.get(name) for name in ("request_id", "run_id") if g.get(name)},
    }

    @response.call_on_close
    def write() -> None:
        duration = round((time.monotonic() - began) * 1000, 1)
        # Load balancers ask for it all day long.
        level = logging.DEBUG if entry["path"] == "/ok" else logging.INFO
        log.log(level, "request", extra={**entry, "duration_ms": duration})

    return response
