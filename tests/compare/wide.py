"""Crons, MCP, A2A and the event protocol."""

from __future__ import annotations

from typing import Any

from cases import CASES, ECHO, KNOWN, UNKNOWN_ID, Difference, Request, get, know, send

# What is known to differ

know(
    Difference("a cron's times have six digits", [{"next_run_date": ...}]),
    "cron: search: next_run_date",
)


def failed(reason: str, **error: Any) -> Difference:
    """An answer of JSON-RPC that is an error."""
    shown = {"code": ..., "message": "<text>", **error}
    return Difference(reason, {"jsonrpc": "2.0", "id": 1, "error": shown})


def command_failed(reason: str, error: str) -> Difference:
    shown = {"type": "error", "id": 1, "error": error, "message": "<text>"}
    return Difference(reason, shown)


RESULT = {
    "content": [{"type": "text", "text": '{"value":"x"}'}],
    "structuredContent": {"value": "x"},
    "isError": False,
}
know(
    Difference("a tool gives JSON", {"jsonrpc": "2.0", "id": 1, "result": RESULT}),
    "mcp: a call",
)
know(failed("an error of A2A names its reason", data=...), "a2a: an unknown task")
know(
    command_failed("a command that names nobody is a wrong argument", "invalid_argument"),
    "protocol: an unknown assistant",
)
know(
    command_failed("an answer on a thread without runs is told so", "no_such_run"),
    "protocol: an answer that nothing waits for",
)

# Never due while the cases run.
CRON = {"assistant_id": "echo", "schedule": "0 0 1 1 *", "input": {"value": 1}}
PATH = "/runs/crons/<cron_id>"


def make(**fields: Any) -> Request:
    return Request("/runs/crons", {**CRON, **fields}, told={"<cron_id>": "cron_id"}, aside=True)


def cron(name: str, *requests: Request) -> None:
    send(f"cron: {name}", *requests)


DELETE = Request(PATH, method="DELETE", aside=True)

cron("GET an unknown one", get(f"/runs/crons/{UNKNOWN_ID}"))
cron("GET one that is no UUID", get("/runs/crons/x"))
cron("DELETE", make(), Request(PATH, method="DELETE"), get(PATH))
cron("DELETE an unknown one", Request(f"/runs/crons/{UNKNOWN_ID}", method="DELETE"))
cron("PATCH an unknown one", Request(f"/runs/crons/{UNKNOWN_ID}", {"enabled": False}, "PATCH"))
cron("on an unknown thread", Request(f"/threads/{UNKNOWN_ID}/runs/crons", CRON))
cron("a schedule that is none", Request("/runs/crons", {**CRON, "schedule": "x"}))
cron("an unknown timezone", Request("/runs/crons", {**CRON, "timezone": "Nowhere"}))
cron("count of an unknown assistant", Request("/runs/crons/count", {"assistant_id": UNKNOWN_ID}))
for field in ("schedule", "timezone", "metadata", "enabled", "on_run_completed", "next_run_date"):
    search = Request("/runs/crons/search", {"metadata": {"mine": field}, "select": [field]})
    given = {"metadata": {"mine": field}, "timezone": "Europe/Berlin"}
    cron(f"search: {field}", make(**given), search, DELETE)

# MCP


def mcp(name: str, method: str, params: Any = None, **more: Any) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}, **more}
    headers = (("Accept", "application/json, text/event-stream"),)
    send(f"mcp: {name}", Request("/mcp", body, headers=headers))


mcp("an unknown method", "nothing")
mcp("a call of an unknown tool", "tools/call", {"name": "nothing", "arguments": {}})
mcp("a call", "tools/call", {"name": "echo", "arguments": {"value": "x"}})

# A2A


def a2a(name: str, method: str, params: Any, agent: str = ECHO) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    send(f"a2a: {name}", Request(f"/a2a/{agent}", body))


a2a("an unknown method", "nothing", {})
a2a("an unknown task", "tasks/get", {"id": UNKNOWN_ID, "contextId": UNKNOWN_ID})
a2a("a message without parts", "message/send", {"message": {"role": "user", "messageId": "m"}})

# The event protocol


def command(name: str, method: str, params: Any) -> None:
    body = {"id": 1, "method": method, "params": params}
    made = Request("/threads", {}, aside=True)
    send(f"protocol: {name}", made, Request("/threads/<thread_id>/commands", body))


command("an unknown command", "nothing", {})
command("an unknown assistant", "run.start", {"assistant_id": UNKNOWN_ID, "input": {}})
command("an answer that nothing waits for", "input.respond", {"interrupt_id": "x", "response": 1})

assert KNOWN.keys() <= {case.name for case in CASES}, "a difference of no case"
