"""A graph whose tool asks for its runtime, and warns."""

import warnings

from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime


@tool
def look(item: str, runtime: ToolRuntime) -> str:
    """Look at an item."""
    warnings.warn(f"{item} is old\nand worn", stacklevel=1)
    return f"{item} {runtime.tool_call_id}"


warns = (
    StateGraph(MessagesState)
    .add_node("tools", ToolNode([look]))
    .add_edge(START, "tools")
    .compile(name="warns")
)
