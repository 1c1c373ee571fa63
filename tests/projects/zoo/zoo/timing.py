"""Graphs that take time.

Where the state names a `file`, lines in it tell a test how far a run got: "started" and "ended" of
a sleep, the number of each step that is done.
"""

import asyncio
import operator
import threading
import time
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from langgraph.graph import START, StateGraph


def _note(state: "Sleep | Steps", line: str) -> None:
    if file := state.get("file"):
        with Path(file).open("a") as notes:
            notes.write(f"{line}\n")


class Sleep(TypedDict, total=False):
    seconds: float
    file: str
    done: bool


def _sleep(state: Sleep) -> Sleep:
    _note(state, "started")
    time.sleep(state["seconds"])
    _note(state, "ended")
    return {"done": True}


async def _sleep_async(state: Sleep) -> Sleep:
    _note(state, "started")
    await asyncio.sleep(state["seconds"])
    _note(state, "ended")
    return {"done": True}


def _hang(state: Sleep) -> Sleep:
    _note(state, "started")
    threading.Event().wait()
    raise AssertionError("unreachable: nobody sets the event")


sleep_sync = (
    StateGraph(Sleep).add_node("sleep", _sleep).add_edge(START, "sleep").compile(name="sleep_sync")
)

sleep_async = (
    StateGraph(Sleep)
    .add_node("sleep", _sleep_async)
    .add_edge(START, "sleep")
    .compile(name="sleep_async")
)

hang = StateGraph(Sleep).add_node("hang", _hang).add_edge(START, "hang").compile(name="hang")


class Steps(TypedDict, total=False):
    n: int
    seconds: float
    file: str
    steps: Annotated[list[int], operator.add]


def _done(state: Steps) -> Steps:
    step = len(state["steps"]) + 1
    _note(state, str(step))
    return {"steps": [step]}


def _step(state: Steps) -> Steps:
    time.sleep(state.get("seconds", 0))
    return _done(state)


async def _step_async(state: Steps) -> Steps:
    await asyncio.sleep(state.get("seconds", 0))
    return _done(state)


def _more(state: Steps) -> Literal["step", "__end__"]:
    return "step" if len(state["steps"]) < state["n"] else "__end__"


steps_sync = (
    StateGraph(Steps)
    .add_node("step", _step)
    .add_edge(START, "step")
    .add_conditional_edges("step", _more)
    .compile(name="steps_sync")
)

steps_async = (
    StateGraph(Steps)
    .add_node("step", _step_async)
    .add_edge(START, "step")
    .add_conditional_edges("step", _more)
    .compile(name="steps_async")
)
