"""Jobs on the process's places."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from runwait.graphs.graph import Graph
from runwait.runs.executor import Executor, Job
from runwait.runs.timers import Timers
from tests.servers import PATIENCE


class State(TypedDict, total=False):
    value: int


def outcome_of(factory: Callable[..., Any]) -> BaseException | None:
    """What a job raised that ends on a thread; its place is free again."""
    executor = Executor(1, Timers().after)
    executor.start()
    config: Any = {"configurable": {}, "metadata": {"graph_id": "agent", "run_id": "r"}}
    job = Job(graph=Graph("agent", factory, None, "sync"), input={}, config=config, context={})
    ended: list[BaseException | None] = []
    freed = threading.Event()
    executor.on_free = freed.set
    assert executor.reserve()
    executor.submit(job, lambda _, error: ended.append(error))
    assert freed.wait(PATIENCE)
    assert executor.reserve()
    [error] = ended
    return error


def graph_of(node: Callable[[State], Any]) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()


def fails(state: State) -> State:
    raise KeyError("in the graph")


def test_a_factory_of_a_synchronous_graph_is_told_what_its_graph_raised() -> None:
    told: list[BaseException] = []

    @contextmanager
    def factory() -> Iterator[Any]:
        try:
            yield graph_of(fails)
        except KeyError as error:
            told.append(error)
            raise

    error = outcome_of(factory)
    assert isinstance(error, KeyError)
    assert told == [error]


@pytest.mark.parametrize("node", [fails, lambda state: state], ids=["fails", "ends well"])
def test_a_factory_that_fails_as_it_is_left_ends_its_run_all_the_same(node: Any) -> None:
    @contextmanager
    def factory() -> Iterator[Any]:
        try:
            yield graph_of(node)
        finally:
            raise OSError("as it is left")

    error = outcome_of(factory)
    assert isinstance(error, OSError)
