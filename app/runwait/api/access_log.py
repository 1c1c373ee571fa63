"""The log's lines for requests: each has one once it is answered, and all meanwhile have its id.

Metrics hear of each request too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from flask import Flask, Response, g, request

from runwait.api.request import request_id
from runwait.logs import about
from runwait.trace_context import id_of

log = logging.getLogger("runwait.requests")


# Told of a request's method, the rule of its path, the answer's status, and the seconds it took.
Answered = Callable[[str, str | None, int, float], None]


def register(app: Flask, answered: Answered = lambda *_: None) -> None:
    """Have the app log its requests, and tell of them."""
    app.before_request(_begin)
    app.after_request(partial(_end, answered))
    app.teardown_request(_forget)


def _begin() -> None:
    g.began = time.monotonic()
    g.request_id = request_id()
    about.set({"request_id": g.request_id})


def _forget(error: BaseException | None) -> None:
    about.set({})


def _end(answered: Answered, response: Response) -> Response:
    began, is_health = g.began, request.path == "/ok"
    rule = request.url_rule.rule if request.url_rule is not None else None
    method, status = request.method, response.status_code
    response.headers["X-Request-ID"] = g.request_id
    entry = {
        "method": method,
        # Encoded, it is one line of plain text whatever the client sent.
        "path": quote(request.script_root + request.path),
        "status": status,
        "client": request.remote_addr,
        "request_id": g.request_id,
        **{name: g.get(name) for name in ("thread_id", "run_id") if name in g},
        **id_of(g.get("trace", {})),
    }
    if user := g.get("caller"):
        entry["user"] = user.identity

    @response.call_on_close
    def write() -> None:
        seconds = time.monotonic() - began
        answered(method, rule, status, seconds)
        # Load balancers ask for it all day long.
        level = logging.DEBUG if is_health else logging.INFO
        log.log(level, "request", extra={**entry, "duration_ms": round(seconds * 1000, 1)})

    return response
