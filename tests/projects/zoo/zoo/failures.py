"""Graphs that end badly."""

import asyncio
import operator
import sys
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph

from zoo.states import Value, only


def _fail(state: Value) -> Value:
    raise ValueError("no luck")


async def _fail_async(state: Value) -> Value:
    raise ValueError("no luck")


def _exit(state: Value) -> Value:
    sys.exit(3)


async def _exit_async(state: Value) -> Value:
    sys.exit(3)


async def _cancel(state: Value) -> Value:
    raise asyncio.CancelledError


fails = only("fails", _fail)
fails_async = only("fails_async", _fail_async)
exits = only("exits", _exit)
exits_async = only("exits_async", _exit_async)
cancels_itself = only("cancels_itself", _cancel)


class Turns(TypedDict, total=False):
    turns: Annotated[int, operator.add]


def _turn(state: Turns) -> Turns:
    return {"turns": 1}


recursion = (
    StateGraph(Turns)
    .add_node("turn", _turn)
    .add_edge(START, "turn")
    .add_edge("turn", "turn")
    .compile(name="recursion")
)
