"""Graphs that put a memory into the store, if they are given one, and search by meaning."""

from __future__ import annotations

from typing import Any, TypedDict, cast

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore, SearchItem


class State(TypedDict, total=False):
    """`found` holds the key and the score of each."""

    key: str
    text: str
    query: str
    found: list[Any]


def recall(state: State, runtime: Runtime[Any]) -> State:
    """Put and search."""
    store = cast(BaseStore, runtime.store)
    if "text" in state:
        store.put(("recall",), state["key"], {"text": state["text"]})
    return _found(store.search(("recall",), query=state["query"]))


async def arecall(state: State, runtime: Runtime[Any]) -> State:
    """Put and search, on an event loop."""
    store = cast(BaseStore, runtime.store)
    if "text" in state:
        await store.aput(("recall",), state["key"], {"text": state["text"]})
    return _found(await store.asearch(("recall",), query=state["query"]))


def _found(items: list[SearchItem]) -> State:
    return {"found": [[item.key, item.score] for item in items]}


graph = StateGraph(State).add_node(recall).add_edge(START, "recall").compile()
agraph = StateGraph(State).add_node(arecall).add_edge(START, "arecall").compile()
