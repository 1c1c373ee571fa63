"""The agent: the model is told what the store holds, and may add to it."""

import asyncio
import os
from typing import Any, cast

from langchain_core.messages import AIMessage
from langgraph.graph import END, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore

from memory_agent import tools, utils
from memory_agent.context import Context
from memory_agent.state import State


async def call_model(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Looks up the user's memories and asks the model."""
    memories = await cast(BaseStore, runtime.store).asearch(
        ("memories", runtime.context.user_id),
        query=str([message.content for message in state.messages[-3:]]),
        limit=10,
    )
    known = "; ".join(sorted(memory.value["content"] for memory in memories)) or "nothing"
    system = runtime.context.system_prompt.format(
        name=os.environ.get("MEMORY_AGENT_NAME", "nobody"), user_info=known
    )
    model = utils.load_chat_model(runtime.context.model).bind_tools([tools.upsert_memory])
    message = await model.ainvoke([{"role": "system", "content": system}, *state.messages])
    return {"messages": [message]}


async def store_memory(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Runs all the memory calls of the last message at once."""
    tool_calls = cast(AIMessage, state.messages[-1]).tool_calls
    saved = await asyncio.gather(
        *(
            tools.upsert_memory(
                **call["args"],
                user_id=runtime.context.user_id,
                store=cast(BaseStore, runtime.store),
            )
            for call in tool_calls
        )
    )
    return {
        "messages": [
            {"role": "tool", "content": text, "tool_call_id": call["id"]}
            for call, text in zip(tool_calls, saved, strict=True)
        ]
    }


def route_message(state: State) -> str:
    """To the store if the model called for it, else to the end."""
    return "store_memory" if cast(AIMessage, state.messages[-1]).tool_calls else END


builder = StateGraph(State, context_schema=Context)
builder.add_node(call_model)
builder.add_edge("__start__", "call_model")
builder.add_node(store_memory)
builder.add_conditional_edges("call_model", route_message, ["store_memory", END])
builder.add_edge("store_memory", "call_model")
graph = builder.compile()
graph.name = "MemoryAgent"

__all__ = ["graph"]
