"""Graphs that return what their nodes can see of the run."""

import json
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _public(mapping: dict[str, Any]) -> dict[str, Any]:
    """What of a mapping is not LangGraph's own wiring."""
    return _plain({key: value for key, value in mapping.items() if not key.startswith("__")})


class Seen(TypedDict, total=False):
    seen: dict[str, Any]


def _who(state: Seen, config: RunnableConfig, runtime: Runtime[Any]) -> Seen:
    server, execution = runtime.server_info, runtime.execution_info
    seen = {
        "configurable": _public(config.get("configurable", {})),
        "metadata": _public(config.get("metadata", {})),
        "tags": config.get("tags"),
        "recursion_limit": config.get("recursion_limit"),
        "max_concurrency": config.get("max_concurrency"),
        "run_name": config.get("run_name"),
        "context": _plain(runtime.context),
        "server_info": server
        and {"assistant_id": server.assistant_id, "graph_id": server.graph_id},
        "execution_info": execution
        and {"run_id": execution.run_id, "thread_id": execution.thread_id},
        "has_store": runtime.store is not None,
    }
    return {"seen": seen}


who = StateGraph(Seen).add_node("who", _who).add_edge(START, "who").compile(name="who")


class ContextSeen(TypedDict, total=False):
    context: dict[str, Any] | None


@dataclass
class DataclassContext:
    user: str = "nobody"
    level: int = 1


def _dataclass(state: ContextSeen, runtime: Runtime[DataclassContext]) -> ContextSeen:
    return {"context": None if runtime.context is None else asdict(runtime.context)}


context_dataclass = (
    StateGraph(ContextSeen, context_schema=DataclassContext)
    .add_node("node", _dataclass)
    .add_edge(START, "node")
    .compile(name="context_dataclass")
)


class PydanticContext(BaseModel):
    user: str
    age: int = 0


def _pydantic(state: ContextSeen, runtime: Runtime[PydanticContext]) -> ContextSeen:
    return {"context": None if runtime.context is None else runtime.context.model_dump()}


context_pydantic = (
    StateGraph(ContextSeen, context_schema=PydanticContext)
    .add_node("node", _pydantic)
    .add_edge(START, "node")
    .compile(name="context_pydantic")
)


_secret: ContextVar[str] = ContextVar("secret", default="clean")


def _keep(old: str, new: str) -> str:
    # LangGraph runs a node in a copy of the run's context, but a reducer in that context itself.
    _secret.set("leaked")
    return new


class Found(TypedDict, total=False):
    found: Annotated[str, _keep]


def _leak(state: Found) -> Found:
    found = _secret.get()
    _secret.set("leaked")
    return {"found": found}


async def _leak_async(state: Found) -> Found:
    return _leak(state)


context_leak = (
    StateGraph(Found).add_node("leak", _leak).add_edge(START, "leak").compile(name="context_leak")
)

context_leak_async = (
    StateGraph(Found)
    .add_node("leak", _leak_async)
    .add_edge(START, "leak")
    .compile(name="context_leak_async")
)
