"""Runs of the graph `chat` (tests/projects/zoo/zoo/chat.py) and what their streams have."""

from __future__ import annotations

from typing import Any

from langgraph_sdk.schema import StreamPart

from tests.e2e.calls import Gate

TOLD = "one two three"
TOKENS = ["one ", "two ", "three"]
# What a run of the graph `chat` gives on a thread, by mode: each event's gist.
GISTS: dict[str, list[Any]] = {
    "values": [[TOLD], [TOLD, TOLD]],
    "updates": [["ask"], ["answer"]],
    "messages-tuple": [*TOKENS, ""],
    "messages": ["answer", "one ", "one two ", TOLD, TOLD],
    "custom": [{"told": 1}],
    "tasks": ["ask", "ask done", "answer", "answer done"],
    "checkpoints": [-1, 0, 1, 2],
    "debug": [
        *("checkpoint", "checkpoint", "task", "task_result"),
        *("checkpoint", "task", "task_result", "checkpoint"),
    ],
    "tools": [],
}


def said(text: str, gate: Gate | None = None) -> dict[str, Any]:
    """The input of a chat."""
    given: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
    return given if gate is None else {**given, "gate": str(gate.path)}


def gist(part: StreamPart) -> Any:
    """What matters of an event of a chat."""
    data: Any = part.data
    match part.event.partition("|")[0]:
        case "values":
            return [message["content"] for message in data["messages"]]
        case "updates":
            return list(data)
        case "messages" | "messages/partial" | "messages/complete":
            return data[0]["content"]
        case "messages/metadata":
            (told,) = data.values()
            return told["metadata"]["langgraph_node"]
        case "tasks":
            return f"{data['name']} done" if "result" in data else data["name"]
        case "checkpoints":
            return data["metadata"]["step"]
        case "debug":
            return data["type"]
        case "tools":
            return data["event"], data["toolCallId"]
    return data
