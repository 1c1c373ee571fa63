"""The trace that a request belongs to: for its run, its log lines, and its span if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Flask, Response, g, request

from runwait.logs import about
from runwait.trace_context import HEADERS, id_of, passed_on
from runwait.tracing import Traces, link


def register(app: Flask, traces: Traces) -> None:
    """Have each request know its trace, as `g.trace`."""
    app.before_request(partial(_begin, traces))
    app.after_request(partial(_end, traces))


def follow(said: Mapping[str, Any]) -> None:
    """Have the run of a request be in the trace that its body names, as MCP's `_meta` may.

    Whoever wrote the body may have had no hold on the headers, and those may come from a proxy with
    traces of its own. Where both name the same trace, the headers' place in it is the nearer one.
    """
    given = passed_on({name: said[name] for name in HEADERS if isinstance(said.get(name), str)})
    if given and id_of(given) != id_of(g.trace):
        if g.span is not None:
            link(g.span, given)
        g.trace = given
        about.set({**about.get(), **id_of(given)})


def _begin(traces: Traces) -> None:
    rule = request.url_rule.rule if request.url_rule is not None else None
    g.span, g.trace = traces.begin(request.method, rule, request.path, request.headers)
    about.set({**about.get(), **id_of(g.trace)})


def _end(traces: Traces, response: Response) -> Response:
    if g.get("span") is not None:
        ids = {name: g.get(name) for name in ("run_id", "thread_id") if name in g}
        response.call_on_close(partial(traces.end, g.span, response.status_code, **ids))
    return response
