"""The log's lines for requests: each has one once it is answered, and all meanwhile have its id."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from flask import Flask, Response, g, request

from runwait.api.request import request_id
from runwait.logs import about

log = logging.getLogger("runwait.requests")


def register(app: Flask) -> None:
    """Have the app log its requests."""
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_forget)


def _begin() -> None:
    g.began = time.monotonic()
    g.request_id = request_id()
    about.set({"request_id": g.request_id})


def _forget(error: BaseException | None) -> None:
    about.set({})


def _end(response: Response) -> Response:
    began, is_health = g.began, request.path == "/ok"
    response.headers["X-Request-ID"] = g.request_id
    entry = {
        "method": request.method,
        # Encoded, it is one line of plain text whatever the client sent.
        "path": quote(request.script_root + request.path),
        "status": response.status_code,
        "client": request.remote_addr,
        "request_id": g.request_id,
        **{name: g.get(name) for name in ("thread_id", "run_id") if name in g},
    }

    @response.call_on_close
    def write() -> None:
        duration = round((time.monotonic() - began) * 1000, 1)
        # Load balancers ask for it all day long.
        level = logging.DEBUG if is_health else logging.INFO
        log.log(level, "request", extra={**entry, "duration_ms": duration})

    return response
