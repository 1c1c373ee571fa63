"""Runs of the graph `chat` (tests/projects/zoo/zoo/chat.py) and what their streams have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def of_mode(mode: str, parts: Sequence[StreamPart]) -> list[StreamPart]:
    """The events that a mode gives."""
    name = "messages" if mode == "messages-tuple" else mode
    slash = mode == "messages"
    names = [part.event.partition("|")[0] for part in parts]
    return [
        part
        for part, each in zip(parts, names, strict=True)
        if each.partition("/")[0] == name and ("/" in each) == slash
    ]


def until(event: str, parts: Iterator[StreamPart]) -> list[StreamPart]:
    """The next events, up to the first with a name."""
    taken: list[StreamPart] = []
    while not taken or taken[-1].event != event:
        try:
            taken.append(next(parts))
        except StopIteration as end:
            raise AssertionError(f"it ended without {event}: {taken}, {end.value}") from end
    return taken


def whole(parts: Sequence[StreamPart], status: str = "success") -> list[StreamPart]:
    """The events between the first and the last of a run that ended so."""
    first, *between, last = parts
    assert first.event == "metadata"
    assert first.data.keys() == {"run_id", "thread_id", "attempt"}
    assert last.event == "end"
    assert last.data == {"run_id": first.data["run_id"], "status": status}
    return between
