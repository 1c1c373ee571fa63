"""Which trace a request's run is in."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g

from runwait.api import traced
from runwait.tracing import Traces

TRACE, OTHER = "a" * 32, "b" * 32


def parent(trace: str, span: str = "1" * 16) -> str:
    return f"00-{trace}-{span}-01"


@pytest.mark.parametrize(
    ("header", "said", "expected"),
    [
        (None, {"traceparent": parent(TRACE)}, {"traceparent": parent(TRACE)}),
        (parent(OTHER), {"traceparent": parent(TRACE)}, {"traceparent": parent(TRACE)}),
        # Between the caller and here, something else was added to the same trace.
        (parent(TRACE, "2" * 16), {"traceparent": parent(TRACE)}, None),
        (
            None,
            {"traceparent": parent(TRACE), "tracestate": "a=b", "baggage": "c=d"},
            {"traceparent": parent(TRACE), "tracestate": "a=b"},
        ),
        (None, {"traceparent": parent(TRACE), "tracestate": 5}, {"traceparent": parent(TRACE)}),
        (parent(OTHER), {}, None),
        (parent(OTHER), {"traceparent": 5}, None),
        (parent(OTHER), {"traceparent": [parent(TRACE)]}, None),
        (parent(OTHER), {"traceparent": "nonsense"}, None),
        (parent(OTHER), {"tracestate": "a=b"}, None),
    ],
)
def test_a_body_may_name_the_trace(
    header: str | None, said: dict[str, Any], expected: dict[str, str] | None
) -> None:
    app = Flask("traced")
    traced.register(app, Traces())

    @app.get("/")
    def view() -> dict[str, str]:
        traced.follow(said)
        trace: dict[str, str] = g.trace
        return trace

    headers = {"traceparent": header} if header else {}
    assert app.test_client().get("/", headers=headers).get_json() == (expected or headers)
