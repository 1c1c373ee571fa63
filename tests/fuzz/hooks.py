"""Has Schemathesis ask what can be done, where JSON Schema has no words for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import schemathesis
from schemathesis import GenerationMode

Body = dict[str, Any]


@schemathesis.hook
def before_call(context: Any, case: Any, options: Any) -> None:
    """Change a case that is to be taken; one that is to be refused stays as it is."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    headers, path = case.headers or {}, case.path_parameters or {}
    # The same key with another body, and an event that the run does not have, are refused.
    for name in [each for each in headers if each.lower() in ("idempotency-key", "last-event-id")]:
        del headers[name]
    if "assistant_id" in path and len(path["assistant_id"]) != 36:
        path["assistant_id"] = "echo"
    if isinstance(case.body, list):
        del case.body[3:]  # they would all be run
    change = _CHANGES.get(case.operation.path)
    for body in case.body if isinstance(case.body, list) else [case.body]:
        if change is not None and isinstance(body, dict):
            change(body)


def _run(body: Body) -> None:
    body["assistant_id"] = "echo"
    # Nodes that there are not, addresses that are not public, answers that nothing waits for.
    for name in ("interrupt_before", "interrupt_after", "webhook", "command", "context"):
        body.pop(name, None)
    if body.get("after_seconds"):
        body["after_seconds"] = -1


def _cron(body: Body) -> None:
    _run(body)
    body["schedule"] = "0 0 1 1 *"
    body.pop("timezone", None)
    body.pop("config", None)


def _assistant(body: Body) -> None:
    body["graph_id"] = "echo"
    body.pop("config", None)


def _thread(body: Body) -> None:
    body.pop("supersteps", None)


def _cancel(body: Body) -> None:
    body.clear()
    body["status"] = "pending"


def _search(body: Body) -> None:
    body.pop("query", None)


_CHANGES: dict[str, Callable[[Body], None]] = {
    **{
        f"{start}/runs{end}": _run
        for start in ("", "/threads/{thread_id}")
        for end in ("", "/wait", "/stream", "/batch")
    },
    "/runs/crons": _cron,
    "/threads/{thread_id}/runs/crons": _cron,
    "/runs/crons/{cron_id}": _cron,
    "/assistants": _assistant,
    "/assistants/{assistant_id}": _assistant,
    "/threads": _thread,
    "/runs/cancel": _cancel,
    "/store/items/search": _search,
}
