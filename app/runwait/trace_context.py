"""W3C's trace context: which trace a request belongs to, and so its run and its webhook.

Whoever calls may send `traceparent`. It goes with the run's record through the queue and to other
processes, and to its webhook, with OpenTelemetry or without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

# The headers, which a run's record holds under these names.
HEADERS = ("traceparent", "tracestate")
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")

Trace = Mapping[str, str]


class Headers(Protocol):
    """A request's headers, or others."""

    def get(self, key: str, default: str, /) -> str:
        """One of them."""


def passed_on(headers: Headers) -> dict[str, str]:
    """The trace context of a request, for its run; empty if it has none that is well formed."""
    parent = headers.get("traceparent", "").strip()
    if not _TRACEPARENT.fullmatch(parent):
        return {}
    state = headers.get("tracestate", "").strip()
    more = {"tracestate": state} if _TRACESTATE.fullmatch(state) else {}
    return {"traceparent": parent, **more}


def id_of(trace: Trace) -> dict[str, str]:
    """The trace's id, for log lines, as `trace_id`; empty if there is none."""
    found = _TRACEPARENT.fullmatch(trace.get("traceparent", ""))
    return {} if found is None else {"trace_id": found[1]}
