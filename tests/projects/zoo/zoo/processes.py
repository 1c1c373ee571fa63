"""Graphs whose nodes start processes, as `multiprocessing` does where it forks."""

import multiprocessing
import os
import time
from typing import Any

from langgraph.graph import START, StateGraph

from zoo.states import Value

_forking = multiprocessing.get_context("fork")


def _start() -> Any:
    # No daemon: such a one ends with its parent only where that waits for it.
    process = _forking.Process(target=time.sleep, args=(3600,))
    process.start()
    return process


def _use(state: Value) -> Value:
    ended = _start()
    ended.terminate()
    ended.join()
    return {"value": {"exitcode": ended.exitcode, "pid": _start().pid}}


async def _use_async(state: Value) -> Value:
    return _use(state)


def _come_back(state: Value) -> Value:
    pid = os.fork()
    return {"value": {"pid": pid}} if pid else {"value": "the child"}


async def _come_back_async(state: Value) -> Value:
    return _come_back(state)


def _only(name: str, node: Any) -> Any:
    return StateGraph(Value).add_node("node", node).add_edge(START, "node").compile(name=name)


processes = _only("processes", _use)
processes_async = _only("processes_async", _use_async)
comes_back = _only("comes_back", _come_back)
comes_back_async = _only("comes_back_async", _come_back_async)
