"""Graphs whose threads have something to show: one for each kind of state."""

from __future__ import annotations

import operator
import threading
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send, interrupt
from langgraph_sdk.runtime import ServerRuntime
from pydantic import BaseModel


class Text(TypedDict, total=False):
    text: str
    seen: Annotated[list[Any], operator.add]


def _a(state: Text) -> Text:
    return {"seen": ["a"]}


def _b(state: Text) -> Text:
    return {"seen": ["b"]}


_plain = (
    StateGraph(Text).add_node("a", _a).add_node("b", _b).add_edge(START, "a").add_edge("a", "b")
)
plain = _plain.compile(name="plain")
fresh = _plain.compile(name="fresh", checkpointer=False)


def _ask(name: str) -> Any:
    def ask(state: Text) -> Text:
        return {"seen": [f"{name}: {interrupt({'ask': name})}"]}

    return ask


parallel = (
    StateGraph(Text)
    .add_node("a", _a)
    .add_node("left", _ask("left"))
    .add_node("right", _ask("right"))
    .add_edge(START, "a")
    .add_edge("a", "left")
    .add_edge("a", "right")
    .compile(name="parallel")
)


class Inner(TypedDict, total=False):
    text: str
    inside: str


def _inside(state: Inner) -> Inner:
    return {"inside": f"{state.get('text')}!"}


def _approve(state: Inner) -> Inner:
    return {"text": f"approved by {interrupt('who?')}"}


_inner = (
    StateGraph(Inner)
    .add_node("inside", _inside)
    .add_node("approve", _approve)
    .add_edge(START, "inside")
    .add_edge("inside", "approve")
)

subgraph = (
    StateGraph(Text)
    .add_node("a", _a)
    .add_node("inner", _inner.compile(name="inner"))
    .add_node("b", _b)
    .add_edge(START, "a")
    .add_edge("a", "inner")
    .add_edge("inner", "b")
    .compile(name="subgraph")
)


class Turns(TypedDict, total=False):
    text: str
    turns: Annotated[int, operator.add]


def _turn(state: Turns) -> Turns:
    return {"turns": 1, "text": interrupt("again?")}


_turns = StateGraph(Turns).add_node("turn", _turn).add_edge(START, "turn")

remembering = (
    StateGraph(Text)
    .add_node("inner", _turns.compile(name="turns", checkpointer=True))
    .add_edge(START, "inner")
    .compile(name="remembering")
)


def _shout(state: Inner) -> Inner:
    return {"text": f"{state.get('text')}!"}


forgetting = (
    StateGraph(Text)
    .add_node(
        "inner",
        StateGraph(Inner)
        .add_node("shout", _shout)
        .add_edge(START, "shout")
        .compile(name="shout", checkpointer=False),
    )
    .add_node("b", _b)
    .add_edge(START, "inner")
    .add_edge("inner", "b")
    .compile(name="forgetting", interrupt_before=["inner"])
)


_done = threading.Semaphore(0)


def _b_first(state: Text) -> Text:
    _done.release()
    return _b(state)


def _fail(state: Text) -> Text:
    # A failure cancels what runs beside it.
    _done.acquire(timeout=60)
    raise ValueError("bad value")


fails = (
    StateGraph(Text)
    .add_node("a", _a)
    .add_node("fail", _fail)
    .add_node("b", _b_first)
    .add_edge(START, "a")
    .add_edge("a", "fail")
    .add_edge("a", "b")
    .compile(name="fails")
)


class Numbers(TypedDict, total=False):
    numbers: list[int]
    done: Annotated[list[Any], operator.add]


def _split(state: Numbers) -> list[Send]:
    return [Send("work", {"number": number}) for number in state["numbers"]]


def _work(state: Any) -> Numbers:
    number = state["number"]
    return {"done": [interrupt(number) if number % 2 else number]}


def _gather(state: Numbers) -> Numbers:
    return {"done": ["gathered"]}


fanout = (
    StateGraph(Numbers)
    .add_node("plan", lambda state: {})
    .add_node("work", _work)
    .add_node("gather", _gather)
    .add_edge(START, "plan")
    .add_conditional_edges("plan", _split, ["work"])
    .add_edge("work", "gather")
    .compile(name="fanout")
)


class Chat(TypedDict, total=False):
    messages: Annotated[list[BaseMessage], add_messages]


def _reply(state: Chat) -> Chat:
    return {"messages": [AIMessage("hello", id="ai")]}


chat = StateGraph(Chat).add_node("reply", _reply).add_edge(START, "reply").compile(name="chat")


@task
def double(number: int) -> int:
    return number * 2


@entrypoint()
def entry(number: int, *, previous: Any = None) -> Any:
    doubled = double(number).result()
    return entrypoint.final(
        value={"doubled": doubled, "answer": interrupt("and?"), "previous": previous},
        save=doubled,
    )


class Output(TypedDict, total=False):
    text: str


narrow = (
    StateGraph(Text, output_schema=Output)
    .add_node("a", _a)
    .add_edge(START, "a")
    .compile(name="narrow")
)


class Model(BaseModel):
    number: int = 0
    note: str = "none"


def _count(state: Model) -> dict[str, Any]:
    return {"number": state.number + 1}


model = (
    StateGraph(Model)
    .add_node("one", _count)
    .add_node("two", _count)
    .add_edge(START, "one")
    .add_edge("one", "two")
    .compile(name="model", interrupt_before=["two"])
)


async def _where(state: Text) -> str:
    return "b" if state.get("text") == "b" else END


branch = (
    StateGraph(Text)
    .add_node("a", _a)
    .add_node("b", _b)
    .add_edge(START, "a")
    .add_conditional_edges("a", _where, ["b", END])
    .compile(name="branch")
)

# For what each was called, in this process.
made_for: list[str] = []


async def factory(runtime: ServerRuntime) -> CompiledStateGraph[Any]:
    made_for.append(runtime.access_context)
    return branch


def sync_factory(runtime: ServerRuntime) -> CompiledStateGraph[Any]:
    made_for.append(runtime.access_context)
    return plain


def configured(config: RunnableConfig) -> Any:
    """A graph whose node has the name that it is configured with."""
    name = config["configurable"].get("node") or "ask"
    return StateGraph(Text).add_node(name, _ask(name)).add_edge(START, name).compile()


async def configured_async(config: RunnableConfig) -> Any:
    return configured(config)
