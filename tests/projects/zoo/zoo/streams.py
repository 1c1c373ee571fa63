"""Graphs whose events are worth streaming.

`speaks` has a chat model that says the words of the input's `text` one by one; where the input
names a `gate`, it does not go on after the third until a file of that name is there. `writes`
writes `n` events of its own, of `size` characters each; `writes_counted` counts them besides, on a
channel of LangGraph's event protocol.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer


class Speaker(BaseChatModel):
    """Says a text, word by word."""

    text: str
    gate: str | None = None

    @property
    def _llm_type(self) -> str:
        return "speaker"

    def _stream(self, *args: Any, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        for number, word in enumerate(self.text.split()):
            while number == 3 and self.gate and not Path(self.gate).exists():
                time.sleep(0.01)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
            if run_manager is not None:
                run_manager.on_llm_new_token(f"{word} ", chunk=chunk)
            yield chunk

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=self.text))])


class Speech(TypedDict, total=False):
    """What is said."""

    messages: Annotated[list[AnyMessage], add_messages]
    text: str
    gate: str


def _speak(state: Speech) -> Speech:
    speaker = Speaker(text=state["text"], gate=state.get("gate"))
    return {"messages": [speaker.invoke("")]}


async def _speak_async(state: Speech) -> Speech:
    speaker = Speaker(text=state["text"], gate=state.get("gate"))
    return {"messages": [await speaker.ainvoke("")]}


class Letters(TypedDict, total=False):
    """How much is written."""

    n: int
    size: int
    gate: str


def _write(state: Letters) -> Letters:
    write = get_stream_writer()
    for number in range(state["n"]):
        write({"number": number, "text": "x" * state.get("size", 0)})
    while (gate := state.get("gate")) and not Path(gate).exists():
        time.sleep(0.01)
    return {}


def _graph(schema: Any, node: Any) -> Any:
    return StateGraph(schema).add_node("node", node).add_edge(START, "node").compile()


speaks = _graph(Speech, _speak)
speaks_async = _graph(Speech, _speak_async)
writes = _graph(Letters, _write)


class Counter(StreamTransformer):
    """Counts what is written."""

    required_stream_modes = ("custom",)

    def init(self) -> dict[str, Any]:
        self._count = 0
        self._counts: StreamChannel[int] = StreamChannel("counts")
        return {"counts": self._counts}

    def process(self, event: ProtocolEvent) -> bool:
        if event["method"] == "custom":
            self._count += 1
            self._counts.push(self._count)
        return True


writes_counted = (
    StateGraph(Letters)
    .add_node("node", _write)
    .add_edge(START, "node")
    .compile(transformers=[Counter])
)
