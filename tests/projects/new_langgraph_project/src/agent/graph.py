"""One async node that reads the run's context and a variable of the .env file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, TypedDict

from langgraph.graph import StateGraph
from langgraph.runtime import Runtime


class Context(TypedDict):
    """What a caller may set for a run."""

    my_configurable_param: str


@dataclass
class State:
    """The input, and what the node makes of it."""

    changeme: str = "example"
    greeting: str = ""


async def call_model(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Answers with what the node was given."""
    return {
        "changeme": f"{state.changeme}, set to {runtime.context.get('my_configurable_param')}",
        "greeting": os.environ.get("NEW_PROJECT_GREETING", ""),
    }


graph = (
    StateGraph(State, context_schema=Context)
    .add_node(call_model)
    .add_edge("__start__", "call_model")
    .compile(name="New Graph")
)
