"""The graph that is measured: one synchronous node."""

from typing import Any, TypedDict

from langgraph.graph import START, StateGraph


class State(TypedDict):
    """What comes in goes out."""

    value: Any


def echo(state: State) -> State:
    """Return the value."""
    return {"value": state["value"]}


graph = StateGraph(State).add_node("echo", echo).add_edge(START, "echo").compile()
