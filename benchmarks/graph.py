"""The graphs that are measured."""

from __future__ import annotations

import asyncio
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


def wait(state: State) -> State:
    """Take as long as the value says."""
    time.sleep(state["value"]["seconds"])
    return state


async def await_(state: State) -> State:
    """The same, without a thread."""
    await asyncio.sleep(state["value"]["seconds"])
    return state


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
sleep_sync = StateGraph(State).add_node("wait", wait).add_edge(START, "wait").compile()
sleep_async = StateGraph(State).add_node("wait", await_).add_edge(START, "wait").compile()
