"""Graphs that 0.2 ran when the record was made, and that the current version goes on with.

They must stay as they are: the record holds their states.
"""

import operator
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel


class Steps(TypedDict, total=False):
    n: int
    held: bool
    steps: Annotated[list[int], operator.add]


def _step(state: Steps, config: RunnableConfig) -> Steps:
    """Do the next step; a run that is `held` does not begin its third while 0.2 has it."""
    number = len(state.get("steps", [])) + 1
    while number == 3 and state.get("held") and "HOLD" in os.environ:
        time.sleep(0.05)
    if notes := os.environ.get("NOTES"):
        with Path(notes).open("a") as file:
            file.write(f"{config['configurable']['run_id']}:{number}\n")
    return {"steps": [number]}


def _more(state: Steps) -> str:
    return "step" if len(state["steps"]) < state["n"] else END


steps = (
    StateGraph(Steps)
    .add_node("step", _step)
    .add_edge(START, "step")
    .add_conditional_edges("step", _more, ["step", END])
    .compile(name="steps")
)


class Price(BaseModel):
    amount: int
    currency: str = "EUR"


@dataclass
class Place:
    name: str
    since: datetime


class Asks(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    price: Price
    place: Place
    big: int
    seen: set[str]


def _prepare(state: Asks) -> Asks:
    return {
        "messages": [AIMessage("It costs 3 EUR. Shall I?", id="asked")],
        "price": Price(amount=3),
        "place": Place("Paris", datetime(2026, 11, 1, tzinfo=UTC)),
        "big": 2**70,
        "seen": {"tea"},
    }


def _act(state: Asks) -> Asks:
    answer = interrupt({"question": "Shall I?", "price": state["price"].amount})
    place = state["place"]
    text = f"{answer}: {state['price'].amount} {state['price'].currency}, {place.name}"
    return {"messages": [HumanMessage(f"{text} {place.since.year}", id="answer")]}


asks = (
    StateGraph(Asks)
    .add_node("prepare", _prepare)
    .add_node("act", _act)
    .add_edge(START, "prepare")
    .add_edge("prepare", "act")
    .compile(name="asks")
)


class Fails(TypedDict, total=False):
    before: bool
    mended: bool


def _first(state: Fails) -> Fails:
    return {"before": True}


def _second(state: Fails) -> Fails:
    if "HOLD" in os.environ:
        raise ValueError("not yet")
    return {"mended": True}


fails = (
    StateGraph(Fails)
    .add_node("first", _first)
    .add_node("second", _second)
    .add_edge(START, "first")
    .add_edge("first", "second")
    .compile(name="fails")
)


class Remembers(TypedDict, total=False):
    remember: str
    known: list[Any]
    who: str


def _remember(state: Remembers, runtime: Runtime[Any]) -> Remembers:
    assert runtime.store is not None
    if text := state.get("remember"):
        runtime.store.put(("people", "ada"), text, {"text": text})
    found = runtime.store.search(("people",))
    return {"known": [each.key for each in found], "who": (runtime.context or {}).get("who", "")}


remembers = StateGraph(Remembers).add_node("node", _remember).add_edge(START, "node").compile()
