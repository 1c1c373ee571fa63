"""A chat agent: the model asks for tools, the tools run, until the model can answer.

Shows the usual loop of ToolNode and tools_condition, and a context with defaults. The model is
scripted, so that no API key is needed.

    curl http://localhost:8000/runs/wait -d '{
      "assistant_id": "chat",
      "input": {"messages": [{"role": "user", "content": "What is 6 * 7? How is Oslo?"}]},
      "context": {"name": "Ada"}
    }'
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolCall
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.runtime import Runtime

PROMPT = "Begin your answer with: "
GREETINGS = {"plain": "Hello {}.", "cheerful": "Good news, {}!"}
WEATHER = {"Lima": "mist, 17 °C", "Oslo": "snow, -4 °C", "Pune": "sun, 31 °C"}


@dataclass
class Context:
    name: str = "friend"
    tone: Literal["plain", "cheerful"] = "plain"


def calculate(left: int, operator: Literal["+", "-", "*"], right: int) -> str:
    """Work out a sum, a difference or a product of two whole numbers."""
    result = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return f"{left} {operator} {right} = {result}."


def weather(city: str) -> str:
    """Look up today's weather in a city."""
    return f"{city} has {WEATHER.get(city, 'no weather station')}."


class ScriptedModel:
    """Stands in for a chat model with tools: init_chat_model("...").bind_tools([...])."""

    def invoke(self, messages: Sequence[AnyMessage]) -> AIMessage:
        greeting = messages[0].text.removeprefix(PROMPT)
        asked = max((i for i, m in enumerate(messages) if m.type == "human"), default=0)
        if results := [m.text for m in messages[asked:] if m.type == "tool"]:
            return AIMessage(" ".join([greeting, *results]))
        question = messages[asked].text
        wanted: list[tuple[str, dict[str, Any]]] = [
            ("calculate", {"left": int(left), "operator": operator, "right": int(right)})
            for left, operator, right in re.findall(r"(\d+)\s*([-+*])\s*(\d+)", question)
        ]
        wanted += [("weather", {"city": city}) for city in WEATHER if city in question]
        if not wanted:
            return AIMessage(f"{greeting} Ask me for a sum, or for the weather in a city.")
        return AIMessage(
            "",
            tool_calls=[
                ToolCall(name=name, args=args, id=f"call_{asked}_{number}")
                for number, (name, args) in enumerate(wanted)
            ],
        )


model = ScriptedModel()


def call_model(state: MessagesState, runtime: Runtime[Context]) -> dict[str, list[AIMessage]]:
    greeting = GREETINGS[runtime.context.tone].format(runtime.context.name)
    return {"messages": [model.invoke([SystemMessage(PROMPT + greeting), *state["messages"]])]}


builder = StateGraph(MessagesState, context_schema=Context)
builder.add_node("model", call_model)
builder.add_node("tools", ToolNode([calculate, weather]))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", tools_condition)
builder.add_edge("tools", "model")
graph = builder.compile(name="chat")
