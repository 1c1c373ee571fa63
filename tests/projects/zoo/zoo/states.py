"""States that more than one module uses, and a graph of one of them."""

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph


class Value(TypedDict, total=False):
    value: Any


class Names(TypedDict, total=False):
    names: Annotated[list[str], operator.add]
    value: Any


def only(name: str, node: Any) -> Any:
    """A graph of one node."""
    return StateGraph(Value).add_node("node", node).add_edge(START, "node").compile(name=name)
