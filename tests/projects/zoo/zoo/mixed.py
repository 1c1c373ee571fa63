"""Graphs that look synchronous and fail under `invoke`: some part of each can only be awaited."""

from typing import Any, Literal

from langchain_core.messages import AIMessage, ToolCall
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from zoo.states import Names, Value


def _start(state: Names) -> Names:
    return {"names": ["start"]}


def _left(state: Names) -> Names:
    return {"names": ["left"]}


def _right(state: Names) -> Names:
    return {"names": ["right"]}


async def _branch(state: Names) -> Literal["left", "right"]:
    return "left" if state.get("value") == "left" else "right"


async_branch = (
    StateGraph(Names)
    .add_node("start", _start)
    .add_node("left", _left)
    .add_node("right", _right)
    .add_edge(START, "start")
    .add_conditional_edges("start", _branch)
    .compile(name="async_branch")
)


async def _shout(text: str) -> tuple[str, None]:
    return text.upper(), None


# As the MCP adapters make them: a coroutine, a plain JSON schema, and an artifact beside the text.
_tool = StructuredTool(
    name="shout",
    description="Shout a text.",
    args_schema={
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    },
    coroutine=_shout,
    response_format="content_and_artifact",
)


def _model(state: MessagesState) -> dict[str, list[AIMessage]]:
    last = state["messages"][-1]
    if last.type == "tool":
        return {"messages": [AIMessage(f"The tool said {last.text}")]}
    call = ToolCall(name="shout", args={"text": last.text}, id="call_1")
    return {"messages": [AIMessage("", tool_calls=[call])]}


mcp_like = (
    StateGraph(MessagesState)
    .add_node("model", _model)
    .add_node("tools", ToolNode([_tool]))
    .add_edge(START, "model")
    .add_conditional_edges("model", tools_condition)
    .add_edge("tools", "model")
    .compile(name="mcp_like")
)


async def _same(state: Value) -> dict[str, Any]:
    return {"value": state.get("value")}


lambda_only_async = (
    StateGraph(Value)
    .add_node("same", RunnableLambda(_same))
    .add_edge(START, "same")
    .compile(name="lambda_only_async")
)
