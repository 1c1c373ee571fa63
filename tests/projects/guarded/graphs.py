"""Graphs that say who runs them, and note it in the store."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph_sdk.runtime import ServerRuntime


class State(TypedDict, total=False):
    """What is asked, and what came of it."""

    note: str
    seen: Any


def look(state: State, config: RunnableConfig, runtime: Runtime) -> State:
    """Who calls, by all ways in which a graph can find out; and what the store has."""
    conf = config["configurable"]
    user = runtime.server_info.user if runtime.server_info else None
    store = runtime.store
    namespace = (conf.get("langgraph_auth_user_id", ""), "notes")
    if note := state.get("note"):
        store.put(namespace, note, {"by": conf.get("langgraph_auth_user_id")})
    return {
        "seen": {
            "id": conf.get("langgraph_auth_user_id"),
            "permissions": conf.get("langgraph_auth_permissions"),
            "user": dict(conf["langgraph_auth_user"]) if "langgraph_auth_user" in conf else None,
            "runtime": user and [user.identity, user["identity"], user.display_name],
            "notes": sorted(item.key for item in store.search(namespace)),
        }
    }


graph = StateGraph(State).add_node(look).add_edge(START, "look").compile()


def make(runtime: ServerRuntime) -> Any:
    """A graph for whoever calls; nobody else gets one."""
    name = runtime.ensure_user().identity

    def say(state: State) -> State:
        return {"seen": f"made for {name}"}

    return StateGraph(State).add_node(say).add_edge(START, "say").compile()
