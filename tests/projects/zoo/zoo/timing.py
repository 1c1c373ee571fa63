"""Graphs that take time.

Where the state names a `file`, lines in it tell a test how far a run got: "started" and "ended" of
a sleep, the number of each step that is done. Where it names a `gate`, a sleep does not end, nor
does a third step, until a file of that name is there. A `second_gate` holds up the fifth step, and
the step `mark` writes a channel that no other does.
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


def _is_closed(gate: str | None) -> bool:
    return gate is not None and not Path(gate).exists()


class Sleep(TypedDict, total=False):
    seconds: float
    file: str
    gate: str
    done: bool


def _sleep(state: Sleep) -> Sleep:
    _note(state, "started")
    time.sleep(state["seconds"])
    while _is_closed(state.get("gate")):
        time.sleep(0.01)
    _note(state, "ended")
    return {"done": True}


async def _sleep_async(state: Sleep) -> Sleep:
    _note(state, "started")
    await asyncio.sleep(state["seconds"])
    while _is_closed(state.get("gate")):
        await asyncio.sleep(0.01)
    _note(state, "ended")
    return {"done": True}


async def _block(state: Sleep) -> Sleep:
    return _sleep(state)


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

# It keeps the event loop from all others.
block_loop = (
    StateGraph(Sleep).add_node("block", _block).add_edge(START, "block").compile(name="block_loop")
)

hang = StateGraph(Sleep).add_node("hang", _hang).add_edge(START, "hang").compile(name="hang")


class Steps(TypedDict, total=False):
    n: int
    seconds: float
    file: str
    gate: str
    second_gate: str
    mark: int
    marked: bool
    steps: Annotated[list[int], operator.add]


def _is_held_up(state: Steps) -> bool:
    gate = {2: state.get("gate"), 4: state.get("second_gate")}.get(len(state["steps"]))
    return _is_closed(gate)


def _done(state: Steps) -> Steps:
    step = len(state["steps"]) + 1
    _note(state, str(step))
    return {"steps": [step], "marked": True} if state.get("mark") == step else {"steps": [step]}


def _step(state: Steps) -> Steps:
    time.sleep(state.get("seconds", 0))
    while _is_held_up(state):
        time.sleep(0.01)
    return _done(state)


async def _step_async(state: Steps) -> Steps:
    await asyncio.sleep(state.get("seconds", 0))
    while _is_held_up(state):
        await asyncio.sleep(0.01)
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
