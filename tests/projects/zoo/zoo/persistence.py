"""Graphs that use what outlives a run: the store and the checkpointer."""

import operator
from typing import Annotated, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore


class Facts(TypedDict, total=False):
    user: str
    fact: str
    facts: list[str]


def _remember(state: Facts, runtime: Runtime) -> Facts:
    assert runtime.store is not None
    namespace = ("facts", state["user"])
    if fact := state.get("fact"):
        runtime.store.put(namespace, fact, {"fact": fact})
    return {"facts": sorted(item.value["fact"] for item in runtime.store.search(namespace))}


memory = (
    StateGraph(Facts)
    .add_node("remember", _remember)
    .add_edge(START, "remember")
    .compile(name="memory")
)


class Visits(TypedDict, total=False):
    visits: int


class Tally(Visits, total=False):
    tally: Annotated[list[str], operator.add]


def _count(state: Tally) -> Tally:
    return {"tally": ["visit"], "visits": len(state["tally"]) + 1}


# Such a subgraph keeps its state from one run on the thread to the next: here, its tally.
_counter = (
    StateGraph(Tally, input_schema=Visits, output_schema=Visits)
    .add_node("count", _count)
    .add_edge(START, "count")
    .compile(name="counter", checkpointer=True)
)

ckpt_true_subgraph = (
    StateGraph(Visits)
    .add_node("counter", _counter)
    .add_edge(START, "counter")
    .compile(name="ckpt_true_subgraph")
)


class Compiled(TypedDict, total=False):
    turns: Annotated[int, operator.add]
    found: bool


# Found in a run's store only if that store is the one compiled in.
_store = InMemoryStore()
_store.put(("planted",), "key", {"planted": True})


def _turn(state: Compiled, runtime: Runtime) -> Compiled:
    store = runtime.store
    return {"turns": 1, "found": store is not None and store.get(("planted",), "key") is not None}


compiled_with_saver = (
    StateGraph(Compiled)
    .add_node("turn", _turn)
    .add_edge(START, "turn")
    .compile(name="compiled_with_saver", checkpointer=InMemorySaver(), store=_store)
)
