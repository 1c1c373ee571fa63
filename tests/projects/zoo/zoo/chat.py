"""A chat whose model repeats what it was told last, a word at a time.

Where the state names a `gate`, the model waits after its first word until a file of that name is
there. It counts words by means of a tool when it is told "Count: ...", and "May I ...?" is for a
person to answer.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt


class Chat(MessagesState, total=False):
    gate: str


class Model(BaseChatModel):
    gate: str | None = None

    @property
    def _llm_type(self) -> str:
        return "repeating"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        last = messages[-1]
        told, to_count = last.text, last.text.removeprefix("Count: ")
        if last.type == "human" and told != to_count:
            args = json.dumps({"text": to_count})
            call = tool_call_chunk(name="count", args=args, id="call_1", index=0)
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[call]))
            return
        for word in re.findall(r"\S+\s*", told):
            yield ChatGenerationChunk(message=AIMessageChunk(word))
            while self.gate is not None and not Path(self.gate).exists():
                time.sleep(0.01)


def count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


def _ask(state: Chat) -> Chat | None:
    told = state["messages"][-1].text
    if not told.startswith("May I"):
        return None
    return {"messages": [HumanMessage(interrupt({"question": told}))]}


def _answer(state: Chat) -> Chat:
    get_stream_writer()({"told": len(state["messages"])})
    return {"messages": [Model(gate=state.get("gate")).invoke(state["messages"])]}


async def _answer_async(state: Chat) -> Chat:
    get_stream_writer()({"told": len(state["messages"])})
    return {"messages": [await Model(gate=state.get("gate")).ainvoke(state["messages"])]}


def _chat(name: str, answer: Any) -> Any:
    return (
        StateGraph(Chat)
        .add_node("ask", _ask)
        .add_node("answer", answer)
        .add_node("tools", ToolNode([count]))
        .add_edge(START, "ask")
        .add_edge("ask", "answer")
        .add_conditional_edges("answer", tools_condition)
        .add_edge("tools", "answer")
        .compile(name=name)
    )


chat = _chat("chat", _answer)
chat_async = _chat("chat_async", _answer_async)

chat_inside = (
    StateGraph(Chat).add_node("chat", chat).add_edge(START, "chat").compile(name="chat_inside")
)
