"""The plainest graphs, and what they can return."""

from typing import Any

from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph

from zoo.states import Names, Value


def _same(state: Value) -> Value:
    return {"value": state.get("value")}


echo = StateGraph(Value).add_node("same", _same).add_edge(START, "same").compile(name="echo")


def _first(state: Names) -> Names:
    return {"names": ["first"]}


def _second(state: Names) -> Names:
    return {"names": ["second"], "value": len(state["names"])}


def _third(state: Names) -> Names:
    return {"names": ["third"]}


two_nodes = (
    StateGraph(Names)
    .add_node("first", _first)
    .add_node("second", _second)
    .add_edge(START, "first")
    .add_edge("first", "second")
    .compile(name="two_nodes")
)

# The parent would add names that the child returns to its own, hence the output schema.
child = (
    StateGraph(Names, output_schema=Value)
    .add_node("second", _second)
    .add_edge(START, "second")
    .compile(name="child")
)

subgraph = (
    StateGraph(Names)
    .add_node("first", _first)
    .add_node("child", child)
    .add_node("third", _third)
    .add_edge(START, "first")
    .add_edge("first", "child")
    .add_edge("child", "third")
    .compile(name="subgraph")
)


@entrypoint()
def entry(values: list[Any]) -> list[Any]:
    return values


@entrypoint()
async def aentry(values: list[Any]) -> list[Any]:
    return values


@entrypoint()
def none_output(value: Any) -> None:
    return None


def _nothing(state: Value) -> None:
    return None


no_update = (
    StateGraph(Value)
    .add_node("nothing", _nothing)
    .add_edge(START, "nothing")
    .compile(name="no_update")
)
