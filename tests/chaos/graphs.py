"""Graphs whose output tells which input it is of, and which execution made it.

A ticket goes in, and is in whatever comes out, so that another run's values are noticed. So is a
name made up by each execution of a node, so that a run that ended twice is noticed. Each execution
streams numbered events under that name, so that one that is lost or doubled is noticed.
"""

import asyncio
import operator
import time
from typing import Annotated, Literal, TypedDict
from uuid import uuid4

from langgraph.graph import START, StateGraph
from langgraph.types import StreamWriter, interrupt

EVENTS = 10


def _work(seconds: float, write: StreamWriter) -> str:
    """Take so long, and tell of it; the execution's name."""
    execution = uuid4().hex
    for number in range(EVENTS):
        write({"execution": execution, "number": number})
        time.sleep(seconds / EVENTS)
    return execution


async def _work_async(seconds: float, write: StreamWriter) -> str:
    execution = uuid4().hex
    for number in range(EVENTS):
        write({"execution": execution, "number": number})
        await asyncio.sleep(seconds / EVENTS)
    return execution


class Quick(TypedDict, total=False):
    ticket: str
    seconds: float
    answer: str
    execution: str


def _quick(state: Quick, writer: StreamWriter) -> Quick:
    execution = _work(state["seconds"], writer)
    return {"answer": f"to {state['ticket']}", "execution": execution}


async def _quick_async(state: Quick, writer: StreamWriter) -> Quick:
    execution = await _work_async(state["seconds"], writer)
    return {"answer": f"to {state['ticket']}", "execution": execution}


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


def _step(state: Steps, writer: StreamWriter) -> Steps:
    execution = _work(state["seconds"], writer)
    return {"steps": [f"{state['ticket']} {_own(state) + 1} {execution}"]}


async def _step_async(state: Steps, writer: StreamWriter) -> Steps:
    execution = await _work_async(state["seconds"], writer)
    return {"steps": [f"{state['ticket']} {_own(state) + 1} {execution}"]}


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


def _ask(state: Approval, writer: StreamWriter) -> Approval:
    reply = interrupt({"ticket": state["ticket"]})
    return {"reply": reply, "execution": _work(state["seconds"], writer)}


approval = StateGraph(Approval).add_node("ask", _ask).add_edge(START, "ask").compile()
