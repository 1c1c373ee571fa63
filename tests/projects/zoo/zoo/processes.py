"""Graphs whose nodes start processes, as `multiprocessing` does where it forks."""

import multiprocessing
import os
import time
from typing import Any

from zoo.states import Value, only

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


processes = only("processes", _use)
processes_async = only("processes_async", _use_async)
comes_back = only("comes_back", _come_back)
comes_back_async = only("comes_back_async", _come_back_async)
