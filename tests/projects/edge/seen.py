"""A graph that shows what it was given of its caller's headers."""

import logging
import time
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    seconds: float
    seen: dict[str, Any]


def look(state: State, config: RunnableConfig) -> State:
    """Show the configurable's headers, after so many seconds."""
    logging.getLogger("seen").warning("the graph looks")
    time.sleep(state.get("seconds", 0))
    given = config["configurable"]
    return {
        "seen": {
            name: given[name] for name in given if name in ("authorization", "plain") or "-" in name
        }
    }


graph = StateGraph(State).add_node(look).add_edge(START, "look").compile()
