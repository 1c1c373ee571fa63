"""A node that keeps the event loop is named."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph

from runwait.graphs.graph import Graph
from runwait.runs.executor import Executor, Job
from runwait.runs.timers import Timers
from runwait.runs.watch import Block, Watch
from tests.servers import PATIENCE, eventually


class State(TypedDict, total=False):
    value: int


class World:
    """An executor that lets go of what keeps its loop once that is noticed."""

    def __init__(self) -> None:
        self.released = threading.Semaphore(0)
        self.blocks: list[Block] = []
        self.executor = Executor(10, Timers().after)
        self.executor.on_blocked = self.noticed
        self.executor.start()

    def noticed(self, block: Block) -> None:
        self.blocks.append(block)
        self.released.release()

    def keep_the_loop(self) -> None:
        assert self.released.acquire(timeout=PATIENCE)

    def run(self, node: Callable[..., Any]) -> None:
        """Run a graph with this node to its end."""
        graph = StateGraph(State).add_node("slow", node).add_edge(START, "slow").compile()
        config: Any = {"configurable": {}, "metadata": {"graph_id": "agent", "run_id": "r"}}
        job = Job(graph=Graph("agent", graph, None, "async"), input={}, config=config, context={})
        ended: list[BaseException | None] = []
        over = threading.Event()
        assert self.executor.reserve()
        self.executor.submit(job, lambda _, error: (ended.append(error), over.set()))
        assert over.wait(PATIENCE)
        assert ended == [None]


@pytest.fixture
def world() -> World:
    return World()


def test_a_node_that_keeps_the_loop_is_noticed_with_its_graph_and_stack(world: World) -> None:
    async def slow(state: State) -> State:
        world.keep_the_loop()
        return {}

    world.run(slow)
    world.run(slow)

    assert [each.number for each in world.blocks] == [1, 2]
    for block in world.blocks:
        assert (block.graph, block.node, block.run_id) == ("agent", "slow", "r")
        assert "in slow\n    world.keep_the_loop()" in block.stack
        assert "run_forever" not in block.stack


def test_what_a_node_started_is_noticed_as_far_as_it_can_be_told(world: World) -> None:
    async def with_config(config: RunnableConfig) -> None:
        world.keep_the_loop()

    async def without() -> None:
        world.keep_the_loop()

    async def slow(state: State, config: RunnableConfig) -> State:
        await asyncio.gather(with_config(config))
        await asyncio.gather(without())
        return {}

    world.run(slow)

    assert [(each.graph, each.node) for each in world.blocks] == [("agent", "slow"), ("", "")]
    assert "in without\n" in world.blocks[1].stack


def test_a_loop_that_goes_on_is_not_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly: what was asked of it has its turn only after a thousand short steps."""
    steps = looks = 0
    frames = Watch._frames

    def look(watch: Watch) -> Any:
        nonlocal looks
        looks += 1
        found, seen = frames(watch), steps
        eventually(lambda: steps > seen + 1 or looks > 1)
        return found

    monkeypatch.setattr(Watch, "_frames", look)

    async def slow(state: State) -> State:
        loop: Any = asyncio.get_running_loop()
        done = loop.create_future()

        def step() -> None:
            nonlocal steps
            steps += 1
            time.sleep(0.01)  # so that it is in a step, most likely, when it is looked at
            if looks < 2:
                # Before all that others ask of the loop.
                loop._ready.appendleft(asyncio.Handle(step, (), loop))
            else:
                done.set_result(None)

        loop.call_soon(step)
        await done
        return {}

    world.run(slow)

    assert world.executor.on_loop(asyncio.sleep(0, "it goes on")) == "it goes on"
    assert world.blocks == []
