"""Graphs that are made for each use. A factory's name is the graph's."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph_sdk.runtime import ServerRuntime

from zoo.states import Value


def _build(node: Callable[..., Value]) -> StateGraph[Value]:
    return StateGraph(Value).add_node("node", node).add_edge(START, "node")


def _returning(value: Any) -> CompiledStateGraph[Value]:
    def node(state: Value) -> Value:
        return {"value": value}

    return _build(node).compile()


def _flavour(config: RunnableConfig) -> str | None:
    return config.get("configurable", {}).get("flavour")


def _facts(runtime: ServerRuntime) -> dict[str, Any]:
    execution = runtime.execution_runtime
    return {
        "access_context": runtime.access_context,
        "context": execution.context if execution else None,
        "has_store": runtime.store is not None,
        "user": runtime.user.identity if runtime.user else None,
    }


def factory() -> CompiledStateGraph[Value]:
    return _returning("made")


def factory_config(config: RunnableConfig) -> CompiledStateGraph[Value]:
    return _returning(_flavour(config))


def factory_runtime(runtime: ServerRuntime) -> CompiledStateGraph[Value]:
    return _returning(_facts(runtime))


def factory_both(runtime: ServerRuntime, config: RunnableConfig) -> CompiledStateGraph[Value]:
    return _returning({"flavour": _flavour(config), **_facts(runtime)})


async def factory_async() -> CompiledStateGraph[Value]:
    return _returning("made")


# What the context managers went through in this process, oldest first.
visits: list[str] = []
visits_sync: list[str] = []


def _recalling(visits: list[str]) -> CompiledStateGraph[Value]:
    def node(state: Value) -> Value:
        if state.get("value") == "fail":
            raise ValueError("no luck")
        return {"value": list(visits)}

    return _build(node).compile()


@asynccontextmanager
async def factory_cm() -> AsyncIterator[CompiledStateGraph[Value]]:
    visits.append("enter")
    try:
        yield _recalling(visits)
    finally:
        visits.append("exit")


@contextmanager
def factory_cm_sync() -> Iterator[CompiledStateGraph[Value]]:
    visits_sync.append("enter")
    try:
        yield _recalling(visits_sync)
    finally:
        visits_sync.append("exit")


def _same(state: Value) -> Value:
    return {"value": state.get("value")}


uncompiled = _build(_same)
