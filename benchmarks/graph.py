"""The graphs that are measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph


class State(TypedDict):
    """What comes in goes out."""

    value: Any


class Started(TypedDict):
    """When the run started, in seconds since 1970."""

    started: float


def echo(state: State) -> State:
    """Return the value."""
    return {"value": state["value"]}


async def echo_async_(state: State) -> State:
    """The same, on a loop."""
    return {"value": state["value"]}


def note_time(_: Started) -> Started:
    """Return the time."""
    return {"started": time.time()}


def wait(state: State) -> State:
    """Take as long as the value says."""
    time.sleep(state["value"]["seconds"])
    return state


async def await_(state: State) -> State:
    """The same, without a thread."""
    await asyncio.sleep(state["value"]["seconds"])
    return state


class Talker(BaseChatModel):
    """Says a word as often as it is told to."""

    count: int

    @property
    def _llm_type(self) -> str:
        return "talker"

    def _stream(self, *args: Any, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        for _ in range(self.count):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content="word "))
            if run_manager is not None:
                run_manager.on_llm_new_token("word ", chunk=chunk)
            yield chunk

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError  # it is streamed


def talk(state: State) -> State:
    """Have a model say so many words."""
    return {"value": Talker(count=state["value"]).invoke("").content}


async def tick(state: State) -> State:
    """Write the time now and then: so often, after so many seconds each."""
    write = get_stream_writer()
    for _ in range(state["value"]["count"]):
        await asyncio.sleep(state["value"]["seconds"])
        write({"at": time.time()})
    return state


graph = StateGraph(State).add_node("echo", echo).add_edge(START, "echo").compile()
echo_async = StateGraph(State).add_node("echo", echo_async_).add_edge(START, "echo").compile()
two_nodes = (
    StateGraph(State)
    .add_node("first", echo)
    .add_node("second", echo)
    .add_edge(START, "first")
    .add_edge("first", "second")
    .compile()
)
clock = StateGraph(Started).add_node("note_time", note_time).add_edge(START, "note_time").compile()
sleep_sync = StateGraph(State).add_node("wait", wait).add_edge(START, "wait").compile()
sleep_async = StateGraph(State).add_node("wait", await_).add_edge(START, "wait").compile()
tokens = StateGraph(State).add_node("talk", talk).add_edge(START, "talk").compile()
ticks = StateGraph(State).add_node("tick", tick).add_edge(START, "tick").compile()
