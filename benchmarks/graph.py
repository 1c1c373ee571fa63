"""The graphs that are measured; all of them synchronous."""

from __future__ import annotations

import time
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph


class State(TypedDict):
    """What comes in goes out."""

    value: Any


class Started(TypedDict):
    """When the run started, in seconds since 1970."""

    started: float


def echo(state: State) -> State:
    """Return the value."""
    return {"value": state["value"]}


def note_time(_: Started) -> Started:
    """Return the time."""
    return {"started": time.time()}


graph = StateGraph(State).add_node("echo", echo).add_edge(START, "echo").compile()
two_nodes = (
    StateGraph(State)
    .add_node("first", echo)
    .add_node("second", echo)
    .add_edge(START, "first")
    .add_edge("first", "second")
    .compile()
)
clock = StateGraph(Started).add_node("note_time", note_time).add_edge(START, "note_time").compile()
