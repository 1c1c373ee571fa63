"""Graphs whose output tells which input it is of, and which execution made it.

A ticket goes in, and is in whatever comes out, so that another run's values are noticed. So is a
name made up by each execution of a node, so that a run that ended twice is noticed.
"""

import asyncio
import operator
import time
from typing import Annotated, Literal, TypedDict
from uuid import uuid4

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class Quick(TypedDict, total=False):
    ticket: str
    seconds: float
    answer: str
    execution: str


def _answer(state: Quick) -> Quick:
    return {"answer": f"to {state['ticket']}", "execution": uuid4().hex}


def _quick(state: Quick) -> Quick:
    time.sleep(state["seconds"])
    return _answer(state)


async def _quick_async(state: Quick) -> Quick:
    await asyncio.sleep(state["seconds"])
    return _answer(state)


quick_sync = StateGraph(Quick).add_node("quick", _quick).add_edge(START, "quick").compile()
quick_async = StateGraph(Quick).add_node("quick", _quick_async).add_edge(START, "quick").compile()


class Steps(TypedDict, total=False):
    """`steps` are of all the thread's runs: "<ticket> <number> <execution>"."""

    ticket: str
    n: int
    seconds: float
    steps: Annotated[list[str], operator.add]


def _own(state: Steps) -> int:
    return sum(step.startswith(f"{state['ticket']} ") for step in state["steps"])


def _step(state: Steps) -> Steps:
    time.sleep(state["seconds"])
    return {"steps": [f"{state['ticket']} {_own(state) + 1} {uuid4().hex}"]}


async def _step_async(state: Steps) -> Steps:
    await asyncio.sleep(state["seconds"])
    return {"steps": [f"{state['ticket']} {_own(state) + 1} {uuid4().hex}"]}


def _more(state: Steps) -> Literal["step", "__end__"]:
    return "step" if _own(state) < state["n"] else "__end__"


steps_sync = (
    StateGraph(Steps)
    .add_node("step", _step)
    .add_edge(START, "step")
    .add_conditional_edges("step", _more)
    .compile()
)
steps_async = (
    StateGraph(Steps)
    .add_node("step", _step_async)
    .add_edge(START, "step")
    .add_conditional_edges("step", _more)
    .compile()
)


class Approval(TypedDict, total=False):
    ticket: str
    seconds: float
    reply: str
    execution: str


def _ask(state: Approval) -> Approval:
    reply = interrupt({"ticket": state["ticket"]})
    time.sleep(state["seconds"])
    return {"reply": reply, "execution": uuid4().hex}


approval = StateGraph(Approval).add_node("ask", _ask).add_edge(START, "ask").compile()
