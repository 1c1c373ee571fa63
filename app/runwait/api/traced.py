"""The trace that a request belongs to: for its run, its log lines, and its span if there is one."""

from __future__ import annotations

from functools import partial

from flask import Flask, Response, g, request

from runwait.logs import about
from runwait.trace_context import id_of
from runwait.tracing import Traces


def register(app: Flask, traces: Traces) -> None:
    """Have each request know its trace, as `g.trace`."""
    app.before_request(partial(_begin, traces))
    app.after_request(partial(_end, traces))


def _begin(traces: Traces) -> None:
    rule = request.url_rule.rule if request.url_rule is not None else None
    g.span, g.trace = traces.begin(request.method, rule, request.path, request.headers)
    about.set({**about.get(), **id_of(g.trace)})


def _end(traces: Traces, response: Response) -> Response:
    if g.get("span") is not None:
        ids = {name: g.get(name) for name in ("run_id", "thread_id") if name in g}
        response.call_on_close(partial(traces.end, g.span, response.status_code, **ids))
    return response
