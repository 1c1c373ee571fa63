"""What threads hold, by graphs of every kind, on LangGraph's own saver and on Redis.

The expected shapes were recorded from the official server, over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import operator
import sys
import threading
from collections.abc import Coroutine, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, make_dataclass
from itertools import chain, pairwise
from types import ModuleType
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.channels.last_value import LastValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from runwait.graphs.config import read
from runwait.graphs.graph import Graph
from runwait.graphs.loader import load
from runwait.serialization import dumps
from runwait.storage.checkpoint import Fenced, RedisSaver, allowlist_of, serializer
from runwait.storage.connection import Storage, StorageUnavailable
from runwait.storage.threads import ThreadRecord
from runwait.threads.compatibility import StateIncompatible, raised_in, refused_by_channel
from runwait.threads.states import (
    EMPTY,
    At,
    CheckpointNotFound,
    NoGraph,
    States,
    ThreadStates,
    UpdateRefused,
)
from tests.servers import PATIENCE, PROJECTS, RedisServer

GRAPHS = load(read(PROJECTS / "states" / "langgraph.json"))


class World:
    """Graphs, checkpoints and threads, as a service has them."""

    def __init__(self, saver: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.saver = saver
        self.loop = loop
        self.graphs = dict(GRAPHS)
        self.states = States(self.graphs, saver, InMemoryStore(), self.run_on_loop)

    def run_on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def add(self, graph_id: str, source: Any) -> None:
        self.graphs[graph_id] = Graph(graph_id, source)

    def run(self, graph_id: str, input: Any, thread_id: str = "", **metadata: Any) -> str:
        """Run the graph on a thread, to its end or its next stop; the thread's id."""
        thread_id = thread_id or str(uuid4())
        graph = self.graphs[graph_id].compiled
        assert graph is not None
        saver = self.saver.with_allowlist(allowlist_of(graph))
        config = {
            "configurable": {"thread_id": thread_id, "__pregel_checkpointer": saver},
            "metadata": metadata,
        }

        async def run() -> None:
            await graph.ainvoke(input, config, durability="sync")

        self.run_on_loop(run())
        return thread_id

    def get(self, thread_id: str, graph_id: str, *args: Any, **options: Any) -> Any:
        """A state as a client reads it."""
        return json.loads(dumps(self.states.get(thread_id, graph_id, *args, **options)))

    def raw(self, thread_id: str) -> Any:
        """All that the saver has of a thread's graph."""
        return [
            (each.checkpoint, each.metadata, each.pending_writes)
            for each in self.saver.list({"configurable": {"thread_id": thread_id}})
        ]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    stopping = threading.Event()

    def run() -> None:
        # As the service's own loop: what exits in a graph ends a task, not the loop.
        while not stopping.is_set():
            with contextlib.suppress(SystemExit):
                loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    yield loop
    stopping.set()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def redis_world(shared_valkey: RedisServer, loop: asyncio.AbstractEventLoop) -> World:
    storage = Storage(shared_valkey.url, 2)
    storage.start()
    return World(RedisSaver(storage, prefix="test"), loop)


@pytest.fixture(params=["memory", "redis"])
def world(
    request: pytest.FixtureRequest, redis_world: World, loop: asyncio.AbstractEventLoop
) -> World:
    return redis_world if request.param == "redis" else World(InMemorySaver(), loop)


def without_ids(value: Any) -> Any:
    """What the official server showed, but for the ids, times and metadata of a run."""
    if isinstance(value, dict):
        return {
            name: without_ids(each)
            for name, each in value.items()
            if name not in ("id", "created_at", "checkpoint_id", "parent_checkpoint_id")
            and name not in ("checkpoint", "parent_checkpoint", "metadata")
        }
    return [without_ids(each) for each in value] if isinstance(value, list) else value


def a_task(name: str, **fields: Any) -> dict[str, Any]:
    task: dict[str, Any] = {
        "name": name,
        "path": ["__pregel_pull", name],
        "error": None,
        "interrupts": [],
        "state": None,
        "result": None,
    }
    return {**task, **fields}


class TestShape:
    def test_of_a_thread_that_ended(self, world):
        thread = world.run("plain", {"text": "hi"}, m=1)
        state = world.get(thread, "plain")
        place = {"thread_id": thread, "checkpoint_ns": ""}
        assert list(state) == [
            "values",
            "next",
            "tasks",
            "metadata",
            "created_at",
            "checkpoint",
            "parent_checkpoint",
            "interrupts",
            "checkpoint_id",
            "parent_checkpoint_id",
        ]
        assert state["values"] == {"text": "hi", "seen": ["a", "b"]}
        assert (state["next"], state["tasks"], state["interrupts"]) == ([], [], [])
        assert state["metadata"].items() >= {"m": 1, "source": "loop", "step": 2}.items()
        assert state["metadata"]["parents"] == {}
        assert state["created_at"].endswith("+00:00")
        assert state["checkpoint"] == {"checkpoint_id": state["checkpoint_id"], **place}
        assert state["parent_checkpoint"] == {
            "checkpoint_id": state["parent_checkpoint_id"],
            **place,
        }

    def test_of_a_checkpoint_within_shows_what_came_of_its_tasks(self, world):
        thread = world.run("plain", {"text": "hi"})
        latest = world.get(thread, "plain")
        within = world.get(thread, "plain", At(checkpoint_id=latest["parent_checkpoint_id"]))
        assert within["checkpoint"] == latest["parent_checkpoint"]
        assert without_ids(within) == {
            "values": {"text": "hi", "seen": ["a"]},
            "next": ["b"],
            "tasks": [a_task("b", result={"seen": ["b"]})],
            "interrupts": [],
        }

    def test_of_a_thread_with_nothing_is_empty(self, world):
        for graph_id in (None, "plain", "factory"):
            assert world.get(str(uuid4()), graph_id) == EMPTY

    def test_of_two_interrupts(self, world):
        thread = world.run("parallel", {"text": "x"})
        state = world.get(thread, "parallel")
        left, right = ({"value": {"ask": each}} for each in ("left", "right"))
        assert without_ids(state) == {
            "values": {"text": "x", "seen": ["a"]},
            "next": ["left", "right"],
            "tasks": [a_task("left", interrupts=[left]), a_task("right", interrupts=[right])],
            "interrupts": [left, right],
        }
        assert state["interrupts"] == [task["interrupts"][0] for task in state["tasks"]]
        assert all(len(each["id"]) == 32 for each in state["interrupts"])
        assert all(task["checkpoint"] is None for task in state["tasks"])

    def test_of_one_interrupt_that_was_answered_and_one_that_was_not(self, world):
        thread = world.run("parallel", {"text": "x"})
        first = world.get(thread, "parallel")["interrupts"][0]
        world.run("parallel", Command(resume={first["id"]: "yes"}), thread)
        state = world.get(thread, "parallel")
        assert state["values"] == {"text": "x", "seen": ["a", "left: yes"]}
        assert state["next"] == ["right"]
        assert [each["value"] for each in state["interrupts"]] == [{"ask": "right"}]
        assert state["tasks"][0]["result"] == {"seen": ["left: yes"]}

    def test_of_a_step_that_is_done_and_not_followed_yet_has_its_tasks_next(self, world):
        thread = world.run("parallel", {"text": "x"})
        state = world.states.get(thread, "parallel")
        config = {"configurable": state["checkpoint"]}
        for task in state["tasks"]:
            # As a run stores what a task wrote, a moment before the next checkpoint.
            world.saver.put_writes(config, [("seen", [task["name"]])], task["id"])
        state = world.get(thread, "parallel")
        assert state["values"]["seen"] == ["a", "left", "right"]
        assert state["next"] == ["left", "right"]

    def test_of_a_subgraph_is_where_its_checkpoints_are(self, world):
        thread = world.run("subgraph", {"text": "x"})
        state = world.get(thread, "subgraph")
        [task] = state["tasks"]
        assert without_ids(task) == a_task("inner", interrupts=[{"value": "who?"}])
        assert task["checkpoint"] == {
            "thread_id": thread,
            "checkpoint_ns": f"inner:{task['id']}",
        }
        assert state["next"] == ["inner"]

    def test_of_a_subgraph_is_the_whole_state_if_asked_for(self, world):
        thread = world.run("subgraph", {"text": "x"})
        state = world.get(thread, "subgraph", subgraphs=True)
        [task] = state["tasks"]
        inner, ns = task["state"], f"inner:{task['id']}"
        assert task["checkpoint"] is None
        assert without_ids(inner) == {
            "values": {"text": "x", "inside": "x!"},
            "next": ["approve"],
            "tasks": [a_task("approve", interrupts=[{"value": "who?"}])],
            "interrupts": [{"value": "who?"}],
        }
        assert inner["checkpoint"] == {
            "checkpoint_id": inner["checkpoint_id"],
            "thread_id": thread,
            "checkpoint_ns": ns,
            "checkpoint_map": {"": state["checkpoint_id"], ns: inner["checkpoint_id"]},
        }
        assert inner["parent_checkpoint"]["checkpoint_map"] == {
            "": state["checkpoint_id"],
            ns: inner["parent_checkpoint_id"],
        }

    @pytest.mark.parametrize("graph_id", ["subgraph", "remembering"])
    def test_of_a_subgraph_can_be_asked_for_by_its_place(self, world, graph_id):
        thread = world.run(graph_id, {"text": "x"})
        [task] = world.get(thread, graph_id)["tasks"]
        [same] = world.get(thread, graph_id, subgraphs=True)["tasks"]
        at = At(checkpoint_ns=task["checkpoint"]["checkpoint_ns"])
        assert world.get(thread, graph_id, at) == same["state"]
        place = same["state"]["checkpoint"]
        place.pop("thread_id")
        assert world.get(thread, graph_id, At(**place))["values"] == same["state"]["values"]

    def test_of_a_subgraph_can_be_asked_for_by_the_map_alone(self, world):
        thread = world.run("subgraph", {"text": "x"})
        [task] = world.get(thread, "subgraph", subgraphs=True)["tasks"]
        place = task["state"]["parent_checkpoint"]
        at = At(checkpoint_ns=place["checkpoint_ns"], checkpoint_map=place["checkpoint_map"])
        assert world.get(thread, "subgraph", at)["checkpoint_id"] == place["checkpoint_id"]

    def test_of_a_subgraph_that_remembers_is_under_its_name(self, world):
        thread = world.run("remembering", {"text": "r"})
        [task] = world.get(thread, "remembering", subgraphs=True)["tasks"]
        assert task["state"]["checkpoint"]["checkpoint_ns"] == "inner"
        assert without_ids(task["state"]) == {
            "values": {"text": "r", "turns": 0},
            "next": ["turn"],
            "tasks": [a_task("turn", interrupts=[{"value": "again?"}])],
            "interrupts": [{"value": "again?"}],
        }

    @pytest.mark.parametrize("subgraphs", [False, True])
    def test_of_a_subgraph_without_checkpoints_is_none(self, world, subgraphs):
        world.add("stops", GRAPHS["forgetting"].compiled)
        thread = world.run("stops", {"text": "r"})
        state = world.get(thread, "stops", subgraphs=subgraphs)
        assert without_ids(state["tasks"]) == [a_task("inner")]
        assert state["tasks"][0]["checkpoint"] is None

    def test_of_a_task_that_failed_has_its_error_and_the_results_beside_it(self, world):
        thread = str(uuid4())
        with pytest.raises(ValueError, match="bad value"):
            world.run("fails", {}, thread)
        assert without_ids(world.get(thread, "fails")) == {
            "values": {"seen": ["a", "b"]},
            "next": ["fail"],
            "tasks": [
                a_task("fail", error="ValueError('bad value')"),
                a_task("b", result={"seen": ["b"]}),
            ],
            "interrupts": [],
        }

    def test_of_a_fan_out_has_a_task_for_each_send(self, world):
        thread = world.run("fanout", {"numbers": [1, 2, 3]})
        state = world.get(thread, "fanout")
        one, two, three = state["tasks"]
        assert state["values"] == {"numbers": [1, 2, 3], "done": [2]}
        assert state["next"] == ["work", "work"]
        assert [each["value"] for each in state["interrupts"]] == [1, 3]
        assert [each["path"] for each in (one, two, three)] == [
            ["__pregel_push", 0, False],
            ["__pregel_push", 1, False],
            ["__pregel_push", 2, False],
        ]
        assert (one["result"], two["result"]) == (None, {"done": [2]})

    def test_of_a_chat_has_its_messages(self, world):
        question = {"role": "user", "content": "q", "id": "me"}
        thread = world.run("chat", {"messages": [question]})
        common = {"additional_kwargs": {}, "response_metadata": {}, "name": None}
        assert world.get(thread, "chat")["values"]["messages"] == [
            {"content": "q", **common, "type": "human", "id": "me"},
            {
                "content": "hello",
                **common,
                "type": "ai",
                "id": "ai",
                "tool_calls": [],
                "invalid_tool_calls": [],
                "usage_metadata": None,
            },
        ]

    def test_of_an_entrypoint_has_its_result_as_values(self, world):
        thread = world.run("entry", 4)
        state = world.get(thread, "entry")
        assert (state["values"], state["next"]) == (None, ["entry"])
        assert without_ids(state["tasks"]) == [a_task("entry", interrupts=[{"value": "and?"}])]
        assert state["metadata"]["step"] == -1
        world.run("entry", Command(resume="yes"), thread)
        state = world.get(thread, "entry")
        assert state["values"] == {"doubled": 8, "answer": "yes", "previous": None}
        assert state["next"] == []

    def test_has_what_the_output_leaves_out(self, world):
        thread = world.run("narrow", {"text": "n"})
        assert world.get(thread, "narrow")["values"] == {"text": "n", "seen": ["a"]}

    def test_of_a_model_has_only_what_was_set(self, world):
        thread = world.run("model", {"number": 1})
        state = world.get(thread, "model")
        assert (state["values"], state["next"]) == ({"number": 2}, ["two"])

    @pytest.mark.parametrize("graph_id", ["factory", "sync_factory"])
    def test_of_a_graph_that_a_factory_makes(self, world, graph_id):
        made = {"factory": "branch", "sync_factory": "plain"}[graph_id]
        thread = world.run(made, {"text": "b"})
        assert world.get(thread, graph_id)["values"] == {"text": "b", "seen": ["a", "b"]}
        [latest] = world.states.history(thread, graph_id, limit=1)
        assert latest["values"] == {"text": "b", "seen": ["a", "b"]}


class TestReading:
    def test_changes_nothing(self, world):
        thread = world.run("parallel", {"text": "x"})
        before = world.raw(thread)
        for _ in range(2):
            world.get(thread, "parallel", subgraphs=True)
            world.states.history(thread, "parallel")
            world.states.summary(thread, "parallel")
        assert world.raw(thread) == before

    def test_runs_no_node(self, world):
        ran = []

        def node(state: dict[str, Any]) -> dict[str, Any]:
            ran.append(state)
            return {}

        builder = StateGraph(dict).add_node("node", node).add_edge(START, "node")
        world.add("counts", builder.compile(interrupt_before=["node"]))
        thread = world.run("counts", {"a": 1})
        assert world.get(thread, "counts")["next"] == ["node"]
        world.states.history(thread, "counts")
        assert ran == []

    def test_an_unknown_checkpoint_is_not_found(self, world):
        thread = world.run("plain", {"text": "x"})
        unknown = str(uuid4())
        for graph_id in ("plain", None):
            with pytest.raises(CheckpointNotFound, match=unknown):
                world.get(thread, graph_id, At(checkpoint_id=unknown))

    def test_a_namespace_with_nothing_is_empty(self, world):
        thread = world.run("plain", {"text": "x"})
        assert world.get(thread, "plain", At(checkpoint_ns="zzz:1")) == EMPTY

    def test_tells_a_factory_what_it_is_for(self, world):
        wanted = []

        def factory(runtime: Any) -> Any:
            wanted.append((runtime.access_context, runtime.execution_runtime))
            return GRAPHS["plain"].compiled

        world.add("asks", factory)
        thread = world.run("plain", {})
        world.get(thread, "asks")
        world.states.history(thread, "asks")
        world.states.update(thread, "asks", {"text": "u"}, "a")
        assert wanted == [
            ("threads.read", None),
            ("threads.read", None),
            ("threads.update", None),
        ]

    def test_does_not_call_a_fault_of_redis_one_of_the_state(self, world):
        thread = world.run("plain", {})

        def away(config: Any) -> Any:
            raise StorageUnavailable("away")

        world.saver.get_tuple = away
        for call in (world.states.get, world.states.summary):
            with pytest.raises(StorageUnavailable):
                call(thread, "plain")


class TestHistory:
    def steps(self, world: World, thread: str, **options: Any) -> list[int]:
        states = world.states.history(thread, "plain", **options)
        return [each["metadata"]["step"] for each in states]

    def test_is_newest_first(self, world):
        thread = world.run("plain", {"text": "hi"})
        assert self.steps(world, thread) == [2, 1, 0, -1]
        states = world.states.history(thread, "plain")
        for newer, older in pairwise(states):
            assert newer["parent_checkpoint"] == older["checkpoint"]
        assert states[0] == world.states.get(thread, "plain")
        assert [each["next"] for each in states] == [[], ["b"], ["a"], ["__start__"]]

    def test_has_at_most_so_many(self, world):
        thread = world.run("plain", {"text": "hi"})
        world.run("plain", {"text": "hi"}, thread)
        world.run("plain", {"text": "hi"}, thread)
        assert len(self.steps(world, thread)) == 10
        assert self.steps(world, thread, limit=2) == [10, 9]
        assert len(self.steps(world, thread, limit=100)) == 12

    def test_begins_before_a_checkpoint(self, world):
        thread = world.run("plain", {"text": "hi"})
        second = world.states.history(thread, "plain")[1]["checkpoint_id"]
        assert self.steps(world, thread, before=second) == [0, -1]
        assert self.steps(world, thread, before=second, limit=1) == [0]

    def test_is_of_those_with_such_metadata(self, world):
        thread = world.run("plain", {"text": "hi"}, run_id="one")
        world.run("plain", {"text": "hi"}, thread, run_id="two")
        assert self.steps(world, thread, metadata={"run_id": "one"}) == [2, 1, 0, -1]
        assert self.steps(world, thread, metadata={"source": "input"}) == [3, -1]
        assert self.steps(world, thread, metadata={"run_id": "none"}) == []

    def test_is_of_one_checkpoint_if_that_is_named(self, world):
        thread = world.run("plain", {"text": "hi"})
        second = world.states.history(thread, "plain")[1]["checkpoint_id"]
        assert self.steps(world, thread, at=At(checkpoint_id=second)) == [1]

    def test_can_be_of_a_subgraph(self, world):
        thread = world.run("subgraph", {"text": "x"})
        [task] = world.get(thread, "subgraph")["tasks"]
        at = At(checkpoint_ns=task["checkpoint"]["checkpoint_ns"])
        states = world.states.history(thread, "subgraph", at=at)
        assert [each["next"] for each in states] == [["approve"], ["inside"], ["__start__"]]

    def test_of_a_thread_with_nothing_is_empty(self, world):
        for graph_id in (None, "plain"):
            assert world.states.history(str(uuid4()), graph_id) == []


class TestUpdate:
    @pytest.mark.parametrize("graph_id", ["plain", "branch", "sync_factory", "factory"])
    def test_is_as_if_the_node_had_run(self, world, graph_id):
        made = {"sync_factory": "plain", "factory": "branch"}.get(graph_id, graph_id)
        thread = world.run(made, {"text": "x"})
        before = world.get(thread, made)
        answer = world.states.update(thread, graph_id, {"text": "b", "seen": ["u"]}, "a")
        state = world.get(thread, made)
        assert state["values"] == {"text": "b", "seen": [*before["values"]["seen"], "u"]}
        assert state["next"] == ["b"]
        assert state["parent_checkpoint"] == before["checkpoint"]
        step = before["metadata"]["step"] + 1
        told = {"graph_id": graph_id, "source": "update", "step": step, "parents": {}}
        assert state["metadata"].items() >= told.items()
        assert "run_id" not in state["metadata"]
        assert answer == {
            "checkpoint": state["checkpoint"],
            "configurable": state["checkpoint"],
            "checkpoint_id": state["checkpoint_id"],
        }

    def test_of_a_new_thread_begins_it(self, world):
        thread = str(uuid4())
        world.states.update(thread, "plain", {"text": "a"})
        assert world.get(thread, "plain")["values"] == {"text": "a", "seen": []}
        world.states.update(thread, "plain", {"seen": [1]}, "a")
        state = world.get(thread, "plain")
        assert (state["values"], state["next"]) == ({"text": "a", "seen": [1]}, ["b"])

    def test_forks_from_a_checkpoint(self, world):
        thread = world.run("plain", {"text": "hi"})
        fork = world.states.history(thread, "plain")[1]
        at = At(checkpoint_id=fork["checkpoint_id"])
        world.states.update(thread, "plain", {"text": "fork"}, "a", at)
        state = world.get(thread, "plain")
        assert state["parent_checkpoint"] == fork["checkpoint"]
        assert (state["values"], state["next"]) == ({"text": "fork", "seen": ["a"]}, ["b"])

    def test_answers_for_a_task_that_waited(self, world):
        thread = world.run("parallel", {"text": "x"})
        world.states.update(thread, "parallel", {"seen": ["answered"]}, "left")
        state = world.get(thread, "parallel")
        assert state["values"]["seen"] == ["a", "answered"]
        assert (state["next"], state["interrupts"]) == ([], [])

    def test_with_null_as_the_end_leaves_nothing_to_do(self, world):
        thread = world.run("parallel", {"text": "x"})
        world.states.update(thread, "parallel", None, "__end__")
        assert world.get(thread, "parallel")["next"] == []

    def test_as_the_input_starts_the_graph_again(self, world):
        thread = world.run("plain", {"text": "x"})
        world.states.update(thread, "plain", {"text": "again"}, "__input__")
        assert world.get(thread, "plain")["next"] == ["__start__"]

    def test_can_be_of_a_subgraph(self, world):
        thread = world.run("subgraph", {"text": "x"})
        [task] = world.get(thread, "subgraph")["tasks"]
        ns = task["checkpoint"]["checkpoint_ns"]
        at = At(checkpoint_ns=ns)
        answer = world.states.update(thread, "subgraph", {"inside": "new"}, "inside", at)
        state = world.get(thread, "subgraph", subgraphs=True)
        inner = state["tasks"][0]["state"]
        assert inner["values"] == {"text": "x", "inside": "new"}
        assert answer["checkpoint"] == {
            "thread_id": thread,
            "checkpoint_ns": ns,
            "checkpoint_id": inner["checkpoint_id"],
            "checkpoint_map": {"": state["checkpoint_id"], ns: inner["checkpoint_id"]},
        }

    def test_gives_its_edges_the_store_and_an_empty_context(self, world):
        seen = []

        def where(state: Any, runtime: Runtime[Any]) -> str:
            seen.append((runtime.context, runtime.store is not None))
            return "b"

        world.add(
            "asks",
            StateGraph(dict, context_schema=dict)
            .add_node("a", lambda state: {})
            .add_node("b", lambda state: {})
            .add_edge(START, "a")
            .add_conditional_edges("a", where, ["b"])
            .compile(),
        )
        world.states.update(str(uuid4()), "asks", {}, "a")
        assert seen == [({}, True)]

    def test_takes_metadata(self, world):
        thread = str(uuid4())
        world.states.update(thread, "plain", {"text": "a"}, metadata={"why": "test"})
        assert world.get(thread, "plain")["metadata"]["why"] == "test"

    def test_of_a_thread_without_a_graph_is_refused(self, world):
        with pytest.raises(NoGraph, match="belongs to no graph"):
            world.states.update(str(uuid4()), None, {})

    @pytest.mark.parametrize(
        ("values", "as_node", "at", "reason"),
        [
            ({}, "nope", At(), "^as_node: the graph has no node 'nope'$"),
            ([{"text": "u"}], "a", At(), r"^values: Expected dict, got \[\{'text': 'u'\}\]$"),
            ("text", "a", At(), "^values: .*Expected dict, got text"),
            ({"seen": 5}, "a", At(), "^values: channel 'seen': TypeError: "),
            ({"text": "x"}, "__end__", At(), "^as_node: '__end__' takes no values but null$"),
            (
                {},
                "a",
                At(checkpoint_ns="zzz:1|b:2"),
                r"^checkpoint.checkpoint_ns: the graph has no subgraph 'zzz\|b'$",
            ),
        ],
    )
    @pytest.mark.parametrize("graph_id", ["plain", "branch", "factory", "sync_factory"])
    def test_that_the_graph_does_not_take_is_refused_and_changes_nothing(
        self, world, graph_id, values, as_node, at, reason
    ):
        made = {"sync_factory": "plain", "factory": "branch"}.get(graph_id, graph_id)
        thread = world.run(made, {"text": "x"})
        before = world.raw(thread)
        with pytest.raises(UpdateRefused, match=reason):
            world.states.update(thread, graph_id, values, as_node, at)
        assert world.raw(thread) == before

    def test_of_a_subgraph_names_its_nodes(self, world):
        thread = world.run("subgraph", {"text": "x"})
        [task] = world.get(thread, "subgraph")["tasks"]
        at = At(checkpoint_ns=task["checkpoint"]["checkpoint_ns"])
        with pytest.raises(UpdateRefused, match=r"^as_node: the graph has no node 'a'$"):
            world.states.update(thread, "subgraph", {}, "a", at)

    def test_after_which_the_state_could_not_be_read_is_refused(self, world):
        thread = world.run("model", {"number": 1})
        before = world.raw(thread)
        with pytest.raises(UpdateRefused, match="channel 'number': Input should be a valid int"):
            world.states.update(thread, "model", {"number": "x"})
        assert world.raw(thread) == before

    def test_that_could_come_from_more_than_one_node_is_refused(self, world):
        thread = world.run("parallel", {"text": "x"})
        world.run(
            "parallel",
            Command(
                resume={each["id"]: "yes" for each in world.get(thread, "parallel")["interrupts"]}
            ),
            thread,
        )
        with pytest.raises(UpdateRefused, match="Ambiguous update, specify as_node"):
            world.states.update(thread, "parallel", {"text": "u"})

    @pytest.mark.parametrize("graph_id", ["plain", "branch"])
    def test_from_an_unknown_checkpoint_is_not_found(self, world, graph_id):
        thread = world.run(graph_id, {"text": "x"})
        before = world.raw(thread)
        unknown = str(uuid4())
        with pytest.raises(CheckpointNotFound, match=unknown):
            world.states.update(thread, graph_id, {}, "a", At(checkpoint_id=unknown))
        assert world.raw(thread) == before

    @pytest.mark.parametrize("graph_id", ["plain", "branch"])
    def test_is_refused_once_somebody_else_has_the_thread(self, redis_world, graph_id):
        world = redis_world
        thread = str(uuid4())
        world.states.update(thread, graph_id, {"text": "first"}, "a", token=3)
        before = world.raw(thread)
        latest = world.get(thread, graph_id)["checkpoint_id"]
        for at in (At(), At(checkpoint_id=latest)):
            with pytest.raises(Fenced):
                world.states.update(thread, graph_id, {"text": "late"}, "a", at, token=2)
        assert world.raw(thread) == before
        world.states.update(thread, graph_id, {"text": "next"}, "a", token=4)
        assert world.get(thread, graph_id)["values"]["text"] == "next"

    def test_forks_on_a_thread_that_nobody_has_held_yet(self, redis_world):
        thread = redis_world.run("plain", {"text": "hi"})
        second = redis_world.states.history(thread, "plain")[1]
        at = At(checkpoint_id=second["checkpoint_id"])
        redis_world.states.update(thread, "plain", {"text": "fork"}, "a", at, token=5)
        assert redis_world.get(thread, "plain")["values"] == {"text": "fork", "seen": ["a"]}

    @pytest.mark.parametrize("execution", ["sync", "async"])
    @pytest.mark.parametrize("raised", [KeyError("x"), SystemExit("bye")])
    def test_whose_edge_raises_is_refused(self, world, execution, raised):
        def where(state: Any) -> str:
            raise raised

        graph = (
            StateGraph(dict)
            .add_node("a", lambda state: {})
            .add_edge(START, "a")
            .add_conditional_edges("a", where, ["a"])
            .compile()
        )
        world.graphs["exits"] = Graph("exits", graph, execution=execution)
        with pytest.raises(UpdateRefused, match=f"^values: {type(raised).__name__}: "):
            world.states.update(str(uuid4()), "exits", {}, "a")

    @pytest.mark.parametrize("execution", ["sync", "async"])
    def test_after_which_something_could_not_be_stored_is_refused(self, redis_world, execution):
        class Odd(TypedDict, total=False):
            value: Annotated[Any, lambda before, new: print if new == "bad" else new]

        graph = StateGraph(Odd).add_node("a", lambda state: {}).add_edge(START, "a").compile()
        redis_world.graphs["odd"] = Graph("odd", graph, execution=execution)
        thread = str(uuid4())
        redis_world.states.update(thread, "odd", {"value": "x"}, "a")
        before = redis_world.raw(thread)
        # What is written can be stored, but not what the channel makes of it.
        with pytest.raises(UpdateRefused, match=r"^values: channel 'value': a value of type buil"):
            redis_world.states.update(thread, "odd", {"value": "bad"}, "a")
        assert redis_world.raw(thread) == before

    def test_of_a_channel_that_keeps_differences_is_read_again(self, world):
        builder = StateGraph(Differences).add_node("node", lambda state: {})
        world.add("differences", builder.add_edge(START, "node").compile())
        thread = str(uuid4())
        for value in (1, 2, 3):
            world.states.update(thread, "differences", {"items": [value]}, "node")
        states = world.states.history(thread, "differences")
        assert [each["values"] for each in states] == [
            {"items": [1, 2, 3]},
            {"items": [1, 2]},
            {"items": [1]},
        ]
        at = At(checkpoint_id=states[1]["checkpoint_id"])
        world.states.update(thread, "differences", {"items": [4]}, "node", at)
        assert world.get(thread, "differences")["values"] == {"items": [1, 2, 4]}

    def test_of_a_state_with_types_of_its_own_forks_too(self, world):
        world.add("facts", _facts())
        thread = world.run("facts", {"fact": Fact("one")})
        at = At(checkpoint_id=world.get(thread, "facts")["checkpoint_id"])
        world.states.update(thread, "facts", {"text": "u"}, "node", at)
        assert world.get(thread, "facts")["values"] == {"fact": {"what": "one"}, "text": "u"}


class TestSupersteps:
    def test_build_a_state_up(self, world):
        thread = str(uuid4())
        world.states.supersteps(
            thread,
            "plain",
            [
                {"updates": [{"values": {"text": "i"}, "command": None, "as_node": "__input__"}]},
                {"updates": [{"values": {"text": "i"}, "command": None, "as_node": "__start__"}]},
                {"updates": [{"values": {"seen": ["z"]}, "command": None, "as_node": "a"}]},
            ],
        )
        state = world.get(thread, "plain")
        assert (state["values"], state["next"]) == ({"text": "i", "seen": ["z"]}, ["b"])
        sources = [each["metadata"]["source"] for each in world.states.history(thread, "plain")]
        assert sources == ["update", "update", "input"]

    def test_take_several_updates_at_once(self, world):
        thread = world.run("parallel", {"text": "x"})
        world.states.supersteps(
            thread,
            "parallel",
            [
                {
                    "updates": [
                        {"values": {"seen": ["l"]}, "as_node": "left"},
                        {"values": {"seen": ["r"]}, "as_node": "right"},
                    ]
                }
            ],
        )
        assert world.get(thread, "parallel")["values"]["seen"] == ["a", "l", "r"]

    @pytest.mark.parametrize("update", [{"text": "cmd"}, [["text", "cmd"]]])
    def test_take_commands(self, world, update):
        thread = str(uuid4())
        goto = ["b", {"node": "a", "input": {}}]
        command = {"update": update, "goto": goto}
        updates = [{"values": None, "command": command, "as_node": "a"}]
        world.states.supersteps(thread, "plain", [{"updates": updates}])
        state = world.get(thread, "plain")
        assert state["values"]["text"] == "cmd"
        assert sorted(state["next"]) == ["a", "b"]

    @pytest.mark.parametrize("graph_id", ["plain", "branch", "factory", "sync_factory"])
    def test_that_name_unknown_nodes_are_refused_before_any_is_done(self, world, graph_id):
        def going(*goto: Any, **update: Any) -> dict[str, Any]:
            command = {"update": {"text": "x"}, "goto": [*goto]}
            return {"values": None, "command": command, "as_node": "a", **update}

        thread = str(uuid4())
        steps = [
            {"updates": [going("b", "__end__", {"node": "b", "input": {}})]},
            {
                "updates": [
                    going("a", "nope", as_node="no"),
                    going({"node": "__start__", "input": 1}),
                ]
            },
            {"updates": [{"values": {}, "as_node": "__end__"}]},
        ]
        with pytest.raises(UpdateRefused) as raised:
            world.states.supersteps(thread, graph_id, steps)
        assert str(raised.value).split("; ") == [
            "supersteps.1.updates.0.as_node: the graph has no node 'no'",
            "supersteps.1.updates.0.command.goto: the graph has no node 'nope'",
            "supersteps.1.updates.1.command.goto: the graph has no node '__start__'",
            "supersteps.2.updates.0.as_node: '__end__' takes no values but null",
        ]
        assert world.raw(thread) == []

    @pytest.mark.parametrize("goto", ["__end__", {"node": "__end__", "input": {}}])
    def test_may_go_to_the_end(self, world, goto):
        thread = str(uuid4())
        command = {"update": {"text": "x"}, "goto": goto}
        world.states.supersteps(
            thread, "branch", [{"updates": [{"command": command, "as_node": "a"}]}]
        )
        state = world.get(thread, "branch")
        assert (state["values"], state["next"]) == ({"text": "x", "seen": []}, [])

    @pytest.mark.parametrize("graph_id", ["plain", "branch"])
    @pytest.mark.parametrize("values", [{"seen": 5}, [1]])
    def test_with_values_that_the_graph_does_not_take_name_the_superstep(
        self, world, graph_id, values
    ):
        given = [{"text": "x"}, {"seen": [1]}, values]
        steps = [{"updates": [{"values": each, "as_node": "a"}]} for each in given]
        with pytest.raises(UpdateRefused, match=r"^supersteps\.2\.updates: \w"):
            world.states.supersteps(str(uuid4()), graph_id, steps)

    @pytest.mark.parametrize("graph_id", ["nope", 5, ["plain"], {}])
    def test_of_a_graph_that_is_not_served_are_refused(self, world, graph_id):
        steps = [{"updates": [{"values": {}, "as_node": "a"}]}]
        with pytest.raises(
            UpdateRefused, match=r"^metadata.graph_id: must be one of the graphs: plain, fresh,"
        ):
            world.states.check_supersteps(graph_id, steps)

    def test_need_a_graph(self, world):
        for steps in ([{"updates": [{"values": {}}]}], []):
            with pytest.raises(NoGraph):
                world.states.supersteps(str(uuid4()), None, steps)

    def test_of_which_there_are_none_are_refused(self, world):
        for steps in ([], [{"updates": []}]):
            with pytest.raises(UpdateRefused, match=r"^supersteps.0.updates: No "):
                world.states.supersteps(str(uuid4()), "plain", steps)


class TestSummary:
    def test_has_the_values_and_what_waits_by_task(self, world):
        thread = world.run("parallel", {"text": "x"})
        values, interrupts = world.states.summary(thread, "parallel")
        state = world.get(thread, "parallel")
        assert values == {"text": "x", "seen": ["a"]}
        assert interrupts == {task["id"]: task["interrupts"] for task in state["tasks"]}

    @pytest.mark.parametrize("graph_id", [None, "plain", "gone", "factory"])
    def test_of_a_thread_with_nothing_has_none(self, world, graph_id):
        assert world.states.summary(str(uuid4()), graph_id) == (None, {})

    @pytest.mark.parametrize("graph_id", [None, "gone", "factory"])
    def test_without_a_graph_at_hand_is_what_the_checkpoint_has(self, world, graph_id):
        thread = world.run("parallel", {"text": "x"})
        known = world.states.summary(thread, "parallel")
        assert world.states.summary(thread, graph_id) == known
        [left, right] = [each[0]["id"] for each in known[1].values()]
        world.run("parallel", Command(resume={left: "yes"}), thread)
        _, waiting = world.states.summary(thread, graph_id)
        assert [each["id"] for [each] in waiting.values()] == [right]

    def test_of_a_state_that_cannot_be_made_is_what_the_checkpoint_has(self, world):
        thread = world.run("plain", {"text": "x"})
        known = world.states.summary(thread, "plain")
        world.add("plain", _breaking(world.graphs["plain"].compiled))
        assert world.states.summary(thread, "plain") == known


def _breaking(compiled: Any) -> Any:
    """The graph, of which no state can be made where `text` is "x"."""

    class Breaking(LastValue[str]):
        def from_checkpoint(self, checkpoint: Any) -> Any:
            assert checkpoint != "x"
            return super().from_checkpoint(checkpoint)

    breaking = copy(compiled)
    breaking.channels = {**compiled.channels, "text": Breaking(str, "text")}
    return breaking


def _extend(items: list[int], more: Sequence[list[int]]) -> list[int]:
    return [*items, *chain.from_iterable(more)]


class Text(TypedDict, total=False):
    text: str


class Renamed(TypedDict, total=False):
    title: str


class Listed(TypedDict, total=False):
    text: Annotated[list[str], operator.add]


class Strict(BaseModel):
    number: list[int] = []


def _strict_model() -> Any:
    def node(state: Strict) -> dict[str, Any]:
        return {}

    return (
        StateGraph(Strict)
        .add_node("one", node)
        .add_node("two", node)
        .add_edge(START, "one")
        .add_edge("one", "two")
        .compile()
    )


@dataclass
class Fact:
    what: str


class Facts(TypedDict, total=False):
    fact: Fact
    text: str


def _facts() -> Any:
    builder = StateGraph(Facts).add_node("node", lambda state: {})
    return builder.add_edge(START, "node").compile()


class Differences(TypedDict, total=False):
    items: Annotated[list[int], DeltaChannel(_extend)]


def _asking(node: str, schema: Any = Text) -> Any:
    def ask(state: Any) -> Any:
        return {"text": interrupt("?")}

    return StateGraph(schema).add_node(node, ask).add_edge(START, node).compile()


def _asking_after_two(
    node: str, *, joined: bool = True, defer: bool = False, **options: Any
) -> Any:
    def ask(state: Any) -> Any:
        return {"text": interrupt("?")}

    builder = StateGraph(Text).add_node("a", lambda state: {}).add_node("b", lambda state: {})
    builder.add_node(node, ask, defer=defer).add_edge(START, "a").add_edge("a", "b")
    builder.add_edge(["a", "b"] if joined else "b", node)
    return builder.compile(**options)


def _around(inner: Any, checkpointer: Any) -> Any:
    attached = inner.copy({"checkpointer": checkpointer})
    return StateGraph(Text).add_node("inner", attached).add_edge(START, "inner").compile()


class TestAfterADeployment:
    def test_a_value_that_the_graph_refuses_is_shown_and_mended_by_an_update(self, world):
        thread = world.run("model", {"number": 1})
        world.add("model", _strict_model())
        state = world.get(thread, "model")
        assert (state["values"], state["next"]) == ({"number": 2}, ["two"])
        assert world.states.history(thread, "model")[0]["values"] == {"number": 2}
        with pytest.raises(UpdateRefused, match="channel 'number': Input should be a valid list"):
            world.states.update(thread, "model", {"number": 3}, "one")
        world.states.update(thread, "model", {"number": [1]}, "one")
        assert world.get(thread, "model")["values"] == {"number": [1]}

    def test_a_channel_whose_reducer_cannot_take_the_old_value_is_named(self, world):
        world.add("asks", _asking("ask"))
        thread = world.run("asks", {"text": "x"})
        world.add("asks", _asking("ask", Listed))
        with pytest.raises(UpdateRefused, match="channel 'text': TypeError"):
            world.states.update(thread, "asks", {"text": ["y"]}, "ask")

    def test_a_channel_that_is_gone_is_passed_over_and_a_new_one_is_empty(self, world):
        world.add("asks", _asking("ask"))
        thread = world.run("asks", {"text": "x"})
        world.add("asks", _asking("ask", Renamed))
        state = world.get(thread, "asks")
        assert (state["values"], state["next"]) == ({}, ["ask"])

    def test_a_node_to_go_on_with_that_is_gone_is_named(self, world):
        world.add("asks", _asking("ask"))
        thread = world.run("asks", {"text": "x"})
        world.add("asks", _asking("question"))
        with pytest.raises(
            StateIncompatible, match=r"channel 'branch:to:ask': .* node 'ask', .* any more$"
        ):
            world.states.get(thread, "asks")
        latest = world.states.history(thread, "asks")[0]
        at = At(checkpoint_id=latest["checkpoint_id"])
        assert world.states.get(thread, "asks", at)["values"] == {"text": "x"}

    def test_a_node_to_go_on_with_that_is_gone_hides_nothing_that_waits(self, world):
        world.add("asks", _asking("ask"))
        thread = world.run("asks", {"text": "x"})
        known = world.states.summary(thread, "asks")
        assert [each["value"] for [each] in known[1].values()] == ["?"]
        world.add("asks", _asking("question"))
        assert world.states.summary(thread, "asks") == known

    @pytest.mark.parametrize("defer", [False, True])
    @pytest.mark.parametrize(
        ("node", "joined", "reason"),
        [("question", True, "does not have"), ("ask", False, "does not come to in this way")],
    )
    def test_a_node_that_several_lead_to_is_named_too(self, world, node, joined, reason, defer):
        world.add("asks", _asking_after_two("ask", defer=defer))
        thread = world.run("asks", {})
        assert world.get(thread, "asks")["next"] == ["ask"]
        world.add("asks", _asking_after_two(node, joined=joined, defer=defer))
        with pytest.raises(
            StateIncompatible, match=rf"^channel 'join:a\+b:ask': .* node 'ask', .*{reason}"
        ):
            world.states.get(thread, "asks")

    def test_a_node_that_not_all_have_come_to_is_not_to_go_on_with(self, world):
        world.add("asks", _asking_after_two("ask", interrupt_before=["b"]))
        thread = world.run("asks", {})
        world.add("asks", _asking_after_two("question", interrupt_before=["b"]))
        assert world.get(thread, "asks")["next"] == ["b"]

    @pytest.mark.parametrize("checkpointer", [None, True])
    def test_a_node_of_a_subgraph_that_is_gone_is_named(self, world, checkpointer):
        world.add("outer", _around(_asking("ask"), checkpointer))
        thread = world.run("outer", {"text": "x"})
        [task] = world.get(thread, "outer")["tasks"]
        at = At(checkpoint_ns=task["checkpoint"]["checkpoint_ns"])
        world.add("outer", _around(_asking("question"), checkpointer))
        for place, options in ((At(), {"subgraphs": True}), (at, {})):
            with pytest.raises(StateIncompatible, match="node 'ask'"):
                world.states.get(thread, "outer", place, **options)
        assert world.get(thread, "outer")["interrupts"] == task["interrupts"]

    def test_a_subgraph_that_a_function_calls_may_be_any(self, world):
        first, second = _asking("ask"), _asking("question")

        def call(state: Text) -> Any:
            return (second if state["text"] == "x" else first).invoke(state)

        world.add(
            "calls", StateGraph(Text).add_node("call", call).add_edge(START, "call").compile()
        )
        thread = world.run("calls", {"text": "x"})
        [task] = world.get(thread, "calls", subgraphs=True)["tasks"]
        assert [each["value"] for each in task["interrupts"]] == ["?"]

    def test_a_thread_that_waits_for_a_node_that_is_gone_can_be_put_right(self, world):
        world.add("asks", _asking("ask"))
        thread = world.run("asks", {"text": "x"})
        world.add("asks", _asking("question"))
        world.states.update(thread, "asks", {"text": "y"}, "__start__")
        state = world.get(thread, "asks")
        assert (state["values"], state["next"]) == ({"text": "y"}, ["question"])

    def test_a_send_to_a_node_that_is_gone_is_named(self, world):
        def build(node: str) -> Any:
            def work(state: Any) -> Any:
                return {"text": interrupt("?")}

            return (
                StateGraph(Text)
                .add_node("plan", lambda state: {})
                .add_node(node, work)
                .add_edge(START, "plan")
                .add_conditional_edges("plan", lambda state: [Send(node, {})], [node])
                .compile()
            )

        world.add("sends", build("work"))
        thread = world.run("sends", {"text": "x"})
        world.add("sends", build("job"))
        with pytest.raises(StateIncompatible, match=r"channel '__pregel_tasks': .* node 'work'"):
            world.states.get(thread, "sends")

    def test_a_thread_at_its_end_fits_whatever_became_of_its_nodes(self, world):
        thread = world.run("plain", {"text": "x"})
        world.add("plain", _asking("question"))
        state = world.get(thread, "plain")
        assert (state["values"], state["next"]) == ({"text": "x"}, [])

    def test_a_graph_that_is_gone_is_named(self, world):
        thread = world.run("plain", {"text": "x"})
        for call in (world.states.get, world.states.history):
            with pytest.raises(StateIncompatible, match="graph 'gone' is not served here any more"):
                call(thread, "gone")
        with pytest.raises(StateIncompatible, match="'gone'"):
            world.states.update(thread, "gone", {})


def test_the_channel_that_an_error_is_about_is_found_in_a_run_too():
    graph = (
        StateGraph(Listed)
        .add_node("node", lambda state: {"text": 5})
        .add_edge(START, "node")
        .compile()
    )
    with pytest.raises(TypeError) as raised:
        graph.invoke({"text": ["x"]})
    assert raised_in(raised.value) == "text"
    assert raised_in(ValueError("x")) is None


class TestWritesThatAChannelRefuses:
    """As earlier versions left them, of a run that failed by them."""

    @pytest.fixture
    def thread(self, world: World) -> str:
        def node(state: Listed) -> Any:
            return {"text": "no list"}

        graph = StateGraph(Listed).add_node("node", node).add_edge(START, "node").compile()
        world.add("lists", graph)
        thread = str(uuid4())
        with pytest.raises(TypeError):
            world.run("lists", {"text": ["x"]}, thread)
        return thread

    def test_are_named_beside_what_was_there_before(self, world, thread):
        state = world.get(thread, "lists")
        assert (state["values"], state["next"]) == ({"text": ["x"]}, ["node"])
        [problem] = state["unreadable"]
        assert problem["channel"] == "text"
        assert problem["reason"].startswith("channel 'text': TypeError: can only concatenate list")
        history = world.states.history(thread, "lists")
        assert [each["values"] for each in history] == [{"text": ["x"]}, {"text": []}]
        assert state["go_on_from"] == history[1]["checkpoint"]

    def test_are_passed_over_by_a_new_input(self, world, thread):
        world.add("lists", _asking("node", Listed))
        world.run("lists", {"text": ["y"]}, thread)
        assert world.get(thread, "lists")["values"] == {"text": ["x", "y"]}


class TestACheckpointOfWhichNoStateCanBeMade:
    def test_is_shown_as_it_is_stored(self, world):
        thread = world.run("plain", {"text": "x"})
        [latest, *others] = world.states.history(thread, "plain")
        world.add("plain", _breaking(world.graphs["plain"].compiled))

        state = world.get(thread, "plain")
        assert state["values"] == {"text": "x", "seen": ["a", "b"]}
        assert state["checkpoint"] == latest["checkpoint"]
        assert state["parent_checkpoint"] == latest["parent_checkpoint"]
        assert state["unreadable"][0]["reason"].startswith("channel 'text': AssertionError")
        shown = world.states.history(thread, "plain")
        assert [each["checkpoint"] for each in shown] == [
            each["checkpoint"] for each in (latest, *others)
        ]
        assert shown[-1] == others[-1]


@pytest.mark.parametrize("on_loop", [False, True])
def test_what_a_channel_refuses_is_told_from_what_one_of_a_graph_within_does(on_loop):
    listed = StateGraph(Listed).add_node("node", lambda state: {"text": 5})
    inner = listed.add_edge(START, "node").compile()
    outer = StateGraph(Listed).add_node("inner", inner).add_edge(START, "inner").compile()
    for graph, expected in ((inner, True), (outer, False)):
        with pytest.raises(TypeError) as raised:
            if on_loop:
                asyncio.run(graph.ainvoke({"text": ["x"]}))
            else:
                graph.invoke({"text": ["x"]})
        assert refused_by_channel(raised.value) is expected
    assert not refused_by_channel(ValueError("x"))


def _deployed_before(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A module with a class."""
    module = ModuleType("deployed_before")
    kind = make_dataclass("Fact", ["what"])
    kind.__module__ = module.__name__
    monkeypatch.setattr(module, "Fact", kind, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module, kind


class TestAValueThatCannotBeRevived:
    """A class that was there when the value was stored, and is not any more."""

    @pytest.fixture
    def thread(self, redis_world: World, monkeypatch: pytest.MonkeyPatch) -> str:
        module, kind = _deployed_before(monkeypatch)

        def add(of: Any) -> None:
            schema = make_dataclass("Facts", [("text", of), ("more", int)])
            builder = StateGraph(schema).add_node("node", lambda state: {"text": module.Fact("x")})
            redis_world.add("fact", builder.add_edge(START, "node").compile())

        add(str | kind)
        thread = redis_world.run("fact", {"text": "x", "more": 1})
        found = redis_world.get(thread, "fact")["values"]
        assert found == {"text": {"what": "x"}, "more": 1}
        add(str)
        monkeypatch.delitem(sys.modules, module.__name__)
        return thread

    def test_is_named_and_hides_nothing_else(self, redis_world, thread):
        place = {"thread_id": thread, "checkpoint_ns": ""}
        problem = {
            "channel": "text",
            "reason": "channel 'text': a stored deployed_before.Fact cannot be revived: "
            "its module was not loaded by the end of the start; STATE_MODULES can name it",
        }
        state = redis_world.get(thread, "fact")
        assert (state["values"], state["next"]) == ({"more": 1}, [])
        assert state["unreadable"] == [problem]

        history = redis_world.states.history(thread, "fact")

        assert [each["values"] for each in history] == [{"more": 1}, {"text": "x", "more": 1}, {}]
        # What the node wrote on the second is not to be read either.
        assert ["unreadable" in each for each in history] == [True, True, False]
        whole = {**place, "checkpoint_id": history[2]["checkpoint_id"]}
        for each in (state, *history[:2]):
            assert each["go_on_from"] == whole

    def test_may_be_a_whole_checkpoint(self, redis_world):
        plain = redis_world.saver
        thread = redis_world.run("plain", {"text": "x"})
        redis_world.saver = RedisSaver(plain.runner, prefix="test", serde=serializer(bytes(16)))
        redis_world.run("plain", {"text": "y"}, thread)

        history = redis_world.states.history(thread, "plain")
        state = redis_world.get(thread, "plain")

        known = [each["values"].get("text") for each in history]
        # A value that has not changed is stored once, and was not encrypted then.
        assert known == [None, None, None, "x", "x", "x", "x", None]
        assert ["unreadable" in each for each in history] == [True] * 4 + [False] * 4
        named = {each["channel"] for each in state["unreadable"]}
        assert {"(checkpoint)", "(metadata)", "text", "seen"} <= named
        assert state["go_on_from"] == history[4]["checkpoint"]
        found = redis_world.states.history(thread, "plain", metadata={"source": "input"})
        assert [each["checkpoint_id"] for each in found] == [history[7]["checkpoint_id"]]

    def test_within_a_subgraph_is_named_there(self, redis_world, monkeypatch):
        module, kind = _deployed_before(monkeypatch)

        def add(of: Any) -> None:
            schema = make_dataclass("Facts", [("text", of), ("more", int)])
            builder = StateGraph(schema).add_node("node", lambda state: {"text": module.Fact("x")})
            builder.add_node("ask", lambda state: {"more": interrupt("?")})
            inner = builder.add_edge(START, "node").add_edge("node", "ask").compile()
            outer = StateGraph(schema).add_node("inner", inner).add_edge(START, "inner")
            redis_world.add("fact", outer.compile())

        add(str | kind)
        thread = redis_world.run("fact", {"text": "x", "more": 1})
        add(str)
        monkeypatch.delitem(sys.modules, module.__name__)

        state = redis_world.get(thread, "fact", subgraphs=True)

        assert "unreadable" not in state
        [task] = state["tasks"]
        assert task["state"]["values"] == {"more": 1}
        assert [each["channel"] for each in task["state"]["unreadable"]] == ["text"]
        assert [each["value"] for each in state["interrupts"]] == ["?"]

    def test_is_not_gone_on_from_but_from_what_is_said(self, redis_world, thread):
        with pytest.raises(StateIncompatible, match=r"channel 'text': .*Fact"):
            redis_world.states.update(thread, "fact", {"text": "y"}, "node")
        go_on_from = redis_world.get(thread, "fact")["go_on_from"]
        at = At(checkpoint_id=go_on_from["checkpoint_id"])
        redis_world.states.update(thread, "fact", {"text": "y"}, "node", at)
        state = redis_world.get(thread, "fact")
        assert state["values"] == {"text": "y"}
        assert "unreadable" not in state

    def test_is_no_value_of_the_thread(self, redis_world, thread):
        for graph_id in ("fact", None):
            assert redis_world.states.summary(thread, graph_id) == ({"more": 1}, {})


def a_thread(metadata: dict[str, Any], status: str = "idle") -> ThreadRecord:
    """The record of a thread that was made and used at once."""
    return ThreadRecord(
        thread_id="t",
        metadata=metadata,
        config={},
        status=status,
        error=None,
        created=0,
        updated=0,
        state_updated=None,
        ttl=None,
        prunes=None,
        temporary=False,
    )


PLAIN = {"graph_id": "plain"}


class TestThreadStates:
    """The states of threads whose records are these."""

    def made(
        self, world: World, threads: dict[str, ThreadRecord]
    ) -> tuple[ThreadStates, list[Any]]:
        told: list[Any] = []

        def hold(thread_id: str) -> int:
            told.append(("hold", thread_id))
            return 7

        states = ThreadStates(
            world.states,
            thread_of=threads.__getitem__,
            hold=hold,
            note=lambda *args: told.append(("note", *args)),
        )
        return states, told

    def test_reads_by_the_graph_in_the_thread_s_metadata(self, world):
        thread = world.run("plain", {"text": "x"})
        states, told = self.made(world, {thread: a_thread(PLAIN)})
        assert states.get(thread) == world.states.get(thread, "plain")
        assert states.history(thread, limit=2) == world.states.history(thread, "plain", limit=2)
        assert told == []

    def test_has_nothing_of_a_thread_without_a_graph(self, world):
        for metadata in ({}, {"graph_id": 5}):
            states, _ = self.made(world, {"t": a_thread(metadata)})
            assert (states.get("t"), states.history("t")) == (EMPTY, [])

    def test_begins_next_where_a_run_has_the_thread_and_wrote_nothing_yet(self, world):
        ended, begun = world.run("plain", {"text": "x"}), world.run("parallel", {"text": "x"})
        threads = {
            ended: a_thread(PLAIN, "busy"),
            begun: a_thread({"graph_id": "parallel"}, "busy"),
            "new": a_thread({}, "busy"),
        }
        states, _ = self.made(world, threads)
        assert states.get(ended) == world.states.get(ended, "plain") | {"next": ["__start__"]}
        assert states.get("new") == {**EMPTY, "next": ["__start__"]}
        assert states.get(begun)["next"] == ["left", "right"]
        # What one checkpoint holds is as it was.
        last = At(checkpoint_id=states.get(ended)["checkpoint_id"])
        assert states.get(ended, last)["next"] == []

    def test_lets_through_that_a_thread_is_unknown(self, world):
        states, told = self.made(world, {})
        for call in (states.get, states.history):
            with pytest.raises(KeyError):
                call("t")
        with pytest.raises(KeyError):
            states.update("t", {})
        assert told == []

    def test_holds_the_thread_for_an_update_and_notes_what_became_of_it(self, world):
        thread = str(uuid4())
        states, told = self.made(world, {thread: a_thread(PLAIN)})
        states.update(thread, {"seen": [1]}, "a")
        assert told == [("hold", thread), ("note", thread, True)]
        states.update(thread, {"seen": [2]}, "b")
        assert told[2:] == [("hold", thread), ("note", thread, False)]

    def test_does_not_hold_a_thread_for_what_cannot_be(self, world):
        thread = str(uuid4())
        threads = {thread: a_thread(PLAIN), "none": a_thread({})}
        states, told = self.made(world, threads)
        with pytest.raises(UpdateRefused):
            states.update(thread, {}, "nope")
        with pytest.raises(NoGraph):
            states.update("none", {})
        assert told == []
