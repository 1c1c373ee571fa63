"""Graphs that are stopped, resumed and steered from outside."""

import operator
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from zoo.states import Names, Value


class Answers(TypedDict, total=False):
    value: str
    answers: Annotated[list[str], operator.add]


def _begin(state: Answers) -> Answers:
    return {"value": "begun"}


# On a loop one asks after the other; on threads either may be first.
async def _left(state: Answers) -> Answers:
    return {"answers": [f"left: {interrupt({'ask': 'left'})}"]}


async def _right(state: Answers) -> Answers:
    return {"answers": [f"right: {interrupt({'ask': 'right'})}"]}


two_interrupts = (
    StateGraph(Answers)
    .add_node("begin", _begin)
    .add_node("left", _left)
    .add_node("right", _right)
    .add_edge(START, "begin")
    .add_edge("begin", "left")
    .add_edge("begin", "right")
    .compile(name="two_interrupts")
)


def _named(name: str) -> Callable[[Names], Names]:
    def node(state: Names) -> Names:
        return {"names": [name]}

    return node


_three = (
    StateGraph(Names)
    .add_node("a", _named("a"))
    .add_node("b", _named("b"))
    .add_node("c", _named("c"))
    .add_edge(START, "a")
    .add_edge("a", "b")
    .add_edge("b", "c")
)
breakpoints = _three.compile(name="breakpoints")
stops_before_b = _three.compile(name="stops_before_b", interrupt_before=["b"])


class Record(Names, total=False):
    seen: Annotated[list[Any], operator.add]


def _recorder(name: str) -> Callable[[Record], Record]:
    def node(state: Value) -> Record:
        return {"names": [name], "seen": [state.get("value")]}

    return node


# Nothing leads to c: only a goto from outside does.
gotos = (
    StateGraph(Record)
    .add_node("a", _recorder("a"))
    .add_node("b", _recorder("b"))
    .add_node("c", _recorder("c"))
    .add_edge(START, "a")
    .add_edge("a", "b")
    .compile(name="gotos")
)


class Asked(TypedDict, total=False):
    file: str
    gate: str
    answers: list[str]


def _ask_twice(state: Asked) -> Asked:
    first = interrupt("first")
    with Path(state["file"]).open("a") as notes:
        notes.write(f"{first}\n")
    if first == "hang":
        threading.Event().wait()
    # Until a file of that name is there.
    while first == "wait" and not Path(state["gate"]).exists():
        time.sleep(0.01)
    return {"answers": [first, interrupt("second")]}


asks_twice = (
    StateGraph(Asked).add_node("ask", _ask_twice).add_edge(START, "ask").compile(name="asks_twice")
)


_FORM = {
    "type": "object",
    "properties": {"sure": {"type": "boolean"}},
    "required": ["sure"],
}


def _forms(state: Answers) -> Answers:
    form = interrupt("Are you sure?", response_schema=_FORM)
    sure = interrupt(["deep", {"nested": True}], response_schema={"type": "boolean"})
    return {"answers": [repr(form), repr(sure)]}


def _declinable(state: Answers) -> Answers:
    return {"answers": [interrupt("decline this")]}


forms = StateGraph(Answers).add_node("forms", _forms).add_edge(START, "forms").compile(name="forms")
declinable = (
    StateGraph(Answers)
    .add_node("declinable", _declinable)
    .add_edge(START, "declinable")
    .compile(name="declinable")
)
