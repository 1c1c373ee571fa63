"""Threads with what they hold: records, checkpoints and states together, on a real Redis."""

from __future__ import annotations

import contextlib
import operator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, NoReturn, TypedDict
from uuid import UUID, uuid4

import pytest
from langgraph.graph import START, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from runwait.graphs.graph import Graph
from runwait.storage.checkpoint import RedisSaver, StateLost
from runwait.storage.connection import Script, Storage, StorageUnavailable
from runwait.storage.threads import (
    ThreadBusy,
    ThreadExists,
    ThreadNotFound,
    ThreadQuery,
    ThreadRecords,
)
from runwait.threads.states import NoGraph, States, UpdateRefused
from runwait.threads.threads import FIELDS, Threads
from tests.servers import RedisServer

CHANGE = Script.of(
    Script.load("threads/library", "runs/library").text
    + "return thread_set(ARGV[1], ARGV[2], clock(), {[ARGV[3]] = ARGV[4]}) and 1"
)


class State(TypedDict, total=False):
    text: str
    seen: Annotated[list[Any], operator.add]


def note(state: State) -> State:
    return {"seen": [state["text"]]}


def ask(state: State) -> State:
    return {"seen": [interrupt("well?")]}


def built(node: Any) -> Graph:
    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return Graph(node.__name__, builder)


GRAPHS = {"note": built(note), "ask": built(ask)}


def never_on_a_loop(_: Any) -> NoReturn:
    raise AssertionError("no graph here needs a loop")


ASKING = {"graph_id": "ask"}


class World:
    """Threads as a service has them, and runs on them."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.storage = Storage(server.url, 1)
        self.storage.start()
        self.saver = RedisSaver(self.storage, prefix="test")
        self.records = ThreadRecords(self.storage, "test", None)
        self.states = States(GRAPHS, self.saver, InMemoryStore(), never_on_a_loop)
        self.threads = Threads(self.records, self.states, self.saver)

    def run(self, thread_id: str, graph_id: str, input: Any) -> None:
        """Run a graph on a thread, and note what a run notes."""
        graph = GRAPHS[graph_id].compiled
        assert graph is not None
        attached = graph.copy({"checkpointer": self.saver.fenced(self.records.hold(thread_id))})
        attached.invoke(input, {"configurable": {"thread_id": thread_id}}, durability="sync")
        self.records.patch(thread_id, {"graph_id": graph_id})
        self.records.note_state(thread_id, self.states.waits(thread_id, graph_id))

    def change(self, thread_id: str, field: str, value: str) -> None:
        assert self.storage.call(CHANGE, [], ["{test}", thread_id, field, value]) == 1

    def checkpoints(self, thread_id: str) -> int:
        return len(list(self.saver.list({"configurable": {"thread_id": thread_id}})))

    def keys_of(self, thread_id: str) -> list[str]:
        """What Redis has of a thread, but for what marks it as gone for an hour."""
        found = [key.decode() for key in self.server.client.keys("*")]
        marks = (":fence", f":gone:{thread_id}")
        return [key for key in found if thread_id in key and not key.endswith(marks)]


@pytest.fixture
def world(shared_valkey: RedisServer) -> World:
    return World(shared_valkey)


@pytest.fixture
def threads(world: World) -> Threads:
    return world.threads


class TestThread:
    def test_has_nothing_at_first(self, threads):
        made = threads.create(metadata={"a": 1})
        assert tuple(made) == FIELDS
        assert UUID(made["thread_id"]).version == 7
        assert (made["metadata"], made["status"], made["config"]) == ({"a": 1}, "idle", {})
        assert (made["values"], made["error"], made["interrupts"]) == (None, None, {})
        assert threads.get(made["thread_id"]) == made

    def test_has_the_values_that_a_run_left(self, world, threads):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "note", {"text": "a"})
        shown = threads.get(thread_id)
        assert shown["values"] == {"text": "a", "seen": ["a"]}
        assert (shown["status"], shown["interrupts"]) == ("idle", {})
        assert shown["state_updated_at"] >= shown["created_at"]

    def test_has_the_interrupts_that_wait_by_task(self, world, threads):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "ask", {"text": "a"})
        shown = threads.get(thread_id)
        assert shown["status"] == "interrupted"
        ((waiting,),) = shown["interrupts"].values()
        assert waiting["value"] == "well?"
        world.run(thread_id, "ask", Command(resume="fine"))
        shown = threads.get(thread_id)
        assert (shown["status"], shown["interrupts"]) == ("idle", {})
        assert shown["values"] == {"text": "a", "seen": ["fine"]}

    def test_says_how_long_it_lives_if_asked(self, threads):
        mortal = threads.create(ttl=90_000)["thread_id"]
        shown = threads.get(mortal, ttl=True)
        assert shown["ttl"]["ttl_minutes"] == 1.5
        assert shown["ttl"]["expires_at"] > shown["updated_at"]
        assert threads.get(threads.create()["thread_id"], ttl=True)["ttl"] is None


class TestCreate:
    def test_of_one_that_is_there_is_refused_or_answered_with_it(self, threads):
        thread_id = str(uuid4())
        made = threads.create(thread_id=thread_id, metadata={"a": 1})
        with pytest.raises(ThreadExists):
            threads.create(thread_id=thread_id, metadata={"a": 2})
        assert threads.create(thread_id=thread_id, metadata={"a": 2}, if_exists="do_nothing") == (
            made
        )

    def test_builds_the_state_from_supersteps(self, threads):
        step = {"updates": [{"values": {"text": "a"}, "as_node": "__start__"}]}
        made = threads.create(metadata={"graph_id": "ask"}, supersteps=[step])
        assert made["values"] == {"text": "a", "seen": []}
        assert made["status"] == "interrupted"
        step2 = {"updates": [{"values": {"seen": ["x"]}, "as_node": "node"}]}
        made = threads.create(metadata={"graph_id": "ask"}, supersteps=[step, step2])
        assert made["values"] == {"text": "a", "seen": ["x"]}
        assert made["status"] == "idle"

    @pytest.mark.parametrize(
        ("metadata", "values", "as_node", "error"),
        [
            ({}, {}, "node", NoGraph),
            ({"graph_id": "nope"}, {}, "node", UpdateRefused),
            ({"graph_id": "note"}, {}, "nope", UpdateRefused),
            ({"graph_id": "note"}, {"seen": 5}, "node", UpdateRefused),
        ],
    )
    def test_with_supersteps_that_cannot_be_done_makes_nothing(
        self, threads, metadata, values, as_node, error
    ):
        steps = [{"updates": [{"values": values, "as_node": as_node}]}]
        with pytest.raises(error):
            threads.create(metadata=metadata, supersteps=steps)
        assert threads.count(ThreadQuery()) == 0

    def test_is_not_there_before_all_of_its_state_is(self, world, threads, monkeypatch):
        thread_id = str(uuid4())
        step = {"updates": [{"values": {"text": "a"}, "as_node": "__start__"}]}
        supersteps = world.states.supersteps

        def broken_off(*args: Any) -> NoReturn:
            supersteps(*args)
            assert world.checkpoints(thread_id) > 0
            with pytest.raises(ThreadNotFound):
                threads.get(thread_id)
            raise StorageUnavailable("away")

        # Its process is gone before it could tidy up.
        monkeypatch.setattr(world.records, "abandon", lambda *_: None)
        with monkeypatch.context() as patched:
            patched.setattr(world.states, "supersteps", broken_off)
            with pytest.raises(StorageUnavailable):
                threads.create(thread_id=thread_id, metadata=ASKING, supersteps=[step])
        with pytest.raises(ThreadNotFound):
            threads.get(thread_id)
        world.server.client.zadd("{test}:threads:building", {thread_id: 1})
        threads.sweep()
        assert world.keys_of(thread_id) == []

    @pytest.mark.parametrize("how", ["empty", "built"])
    def test_that_another_makes_meanwhile_is_the_others(self, world, threads, monkeypatch, how):
        thread_id = str(uuid4())
        steps = [{"updates": [{"values": {"text": "a"}, "as_node": "__start__"}]}]
        others = [{"updates": [{"values": {"text": "b"}, "as_node": "__start__"}]}]
        supersteps = world.states.supersteps

        def overtaken(*args: Any) -> None:
            monkeypatch.setattr(world.states, "supersteps", supersteps)
            supersteps(*args)
            threads.create(
                thread_id=thread_id,
                metadata=ASKING,
                supersteps=others if how == "built" else (),
            )
            supersteps(*args)

        monkeypatch.setattr(world.states, "supersteps", overtaken)
        with pytest.raises(ThreadBusy):
            threads.create(thread_id=thread_id, metadata=ASKING, supersteps=steps)
        values = threads.get(thread_id)["values"]
        assert values == ({"text": "b", "seen": []} if how == "built" else None)
        assert world.checkpoints(thread_id) == (1 if how == "built" else 0)

    def test_after_a_removal_that_was_not_finished_finds_nothing_of_it(self, world, threads):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "note", {"text": "old"})
        world.records.delete(thread_id)  # and no more, as when the process dies here
        assert world.checkpoints(thread_id) > 0
        made = threads.create(thread_id=thread_id, metadata={"graph_id": "note"})
        assert made["values"] is None
        world.run(thread_id, "note", {"text": "new"})
        assert threads.get(thread_id)["values"]["seen"] == ["new"]


class TestPatch:
    def test_lays_metadata_over(self, threads):
        thread_id = threads.create(metadata={"a": 1, "b": {"c": 1}})["thread_id"]
        patched = threads.patch(thread_id, metadata={"b": 2})
        assert patched["metadata"] == {"a": 1, "b": 2}
        assert threads.patch(thread_id, minimal=True) is None

    def test_gives_a_thread_a_life(self, threads):
        thread_id = threads.create()["thread_id"]
        threads.patch(thread_id, ttl=60_000)
        assert threads.get(thread_id, ttl=True)["ttl"]["ttl_minutes"] == 1


class TestDelete:
    def test_takes_everything(self, world, threads):
        thread_id = threads.create(metadata={"a": 1}, ttl=60_000)["thread_id"]
        world.run(thread_id, "ask", {"text": "a"})
        threads.delete(thread_id)
        assert world.keys_of(thread_id) == []
        for call in (threads.get, threads.patch, threads.delete, threads.copy):
            with pytest.raises(ThreadNotFound):
                call(thread_id)

    def test_leaves_room_for_a_thread_of_the_same_id(self, world, threads):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "note", {"text": "old"})
        threads.delete(thread_id)
        threads.create(thread_id=thread_id)
        world.run(thread_id, "note", {"text": "new"})
        assert threads.get(thread_id)["values"] == {"text": "new", "seen": ["new"]}

    def test_is_finished_by_a_sweep_where_it_broke_off(self, world, threads):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "note", {"text": "a"})
        world.records.delete(thread_id)
        threads.sweep()
        assert world.keys_of(thread_id) == []
        assert world.records.sweep() == ([], [], False)

    def test_that_comes_late_leaves_a_later_thread_alone(self, world, threads):
        thread_id = threads.create()["thread_id"]
        left_over = world.records.delete(thread_id)
        threads.clean(left_over)
        threads.create(thread_id=thread_id)
        world.run(thread_id, "note", {"text": "new"})
        threads.clean(left_over)
        assert threads.get(thread_id)["values"]["seen"] == ["new"]

    def test_stands_although_the_checkpoints_could_not_be_deleted_yet(
        self, world, threads, monkeypatch
    ):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "note", {"text": "a"})

        def away(_: RedisSaver, thread_id: str) -> NoReturn:
            raise StorageUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(RedisSaver, "delete_thread", away)
            threads.delete(thread_id)
        with pytest.raises(ThreadNotFound):
            threads.get(thread_id)
        threads.sweep()
        assert world.keys_of(thread_id) == []


class TestCreation:
    def test_of_what_others_make_and_remove_over_and_over_is_answered_with_a_thread(self, threads):
        thread_id = str(uuid4())

        def make(_: int) -> str:
            return threads.create(thread_id=thread_id, if_exists="do_nothing")["thread_id"]

        def remove(_: int) -> None:
            with contextlib.suppress(ThreadNotFound):
                threads.delete(thread_id)

        with ThreadPoolExecutor(8) as pool:
            both = [pool.submit(each, n) for n in range(600) for each in (make, remove)]
            assert {each.result() for each in both} == {thread_id, None}


class TestExpiry:
    def test_takes_everything(self, world, threads):
        thread_id = threads.create(ttl=60_000)["thread_id"]
        world.run(thread_id, "note", {"text": "a"})
        threads.sweep()
        assert threads.get(thread_id)["values"]["seen"] == ["a"]
        world.server.client.zadd("{test}:threads:expiry", {thread_id: 1})
        threads.sweep()
        assert world.keys_of(thread_id) == []

    def test_may_keep_the_latest_state(self, world, threads):
        threads._records = ThreadRecords(world.storage, "test", 600, "keep_latest")
        thread_id = threads.create()["thread_id"]
        for text in ("a", "b"):
            world.run(thread_id, "note", {"text": text})
        states = world.checkpoints(thread_id)
        assert threads.get(thread_id, ttl=True)["ttl"]["strategy"] == "keep_latest"
        world.server.client.zadd("{test}:threads:pruning", {thread_id: 1})
        threads.sweep()
        assert threads.get(thread_id)["values"]["seen"] == ["a", "b"]
        assert world.checkpoints(thread_id) == 1 < states
        assert world.server.client.zcard("{test}:threads:pruning") == 1

    def test_takes_all_that_expired_in_one_sweep(self, world, threads):
        made = [threads.create(ttl=60_000)["thread_id"] for _ in range(250)]
        world.server.client.zadd("{test}:threads:expiry", dict.fromkeys(made, 1))
        threads.sweep()
        assert threads.count(ThreadQuery()) == 0
        assert world.records.sweep() == ([], [], False)


class TestSearch:
    def test_finds_threads_by_what_their_values_contain(self, world, threads):
        made = [threads.create(metadata={"n": n})["thread_id"] for n in range(4)]
        for thread_id, text in zip(made, ("a", "b", "a", "a"), strict=True):
            world.run(thread_id, "note", {"text": text})
        query = ThreadQuery(sort_by="thread_id", sort_order="asc", limit=2)
        found, total, more = threads.search(query, values={"text": "a", "seen": ["a"]})
        assert [each["thread_id"] for each in found] == [made[0], made[2]]
        assert (total, more) == (3, True)
        assert threads.count(query, values={"text": "a"}) == 3
        assert threads.count(ThreadQuery(metadata={"n": 3}), values={"text": "a"}) == 1
        assert threads.count(query, values={"text": "c"}) == 0
        assert threads.count(query, values={}) == 4

    def test_shows_what_was_selected_and_reads_no_state_for_it(self, world, threads, monkeypatch):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "note", {"text": "a"})
        found, _, _ = threads.search(ThreadQuery(), select=["thread_id", "values"])
        assert found == [{"thread_id": thread_id, "values": {"text": "a", "seen": ["a"]}}]
        monkeypatch.setattr(States, "summary", None)
        found, _, _ = threads.search(ThreadQuery(), select=["thread_id", "status"])
        assert found == [{"thread_id": thread_id, "status": "idle"}]

    def test_shows_what_is_at_a_path(self, world, threads):
        metadata = {"a": {"b-c": [1, [2, 3]]}}
        thread_id = threads.create(metadata=metadata)["thread_id"]
        world.run(thread_id, "note", {"text": 10**5000})
        paths = {
            "text": "values.text",
            "last": "values.seen[-1]",
            "deep": "metadata.a.b-c[1][0]",
            "config": "config",
            "no_name": "values.nope.nope",
            "no_element": "values.seen[1]",
            "no_object": "values.seen.text",
            "no_list": "values[0]",
        }
        found, _, _ = threads.search(ThreadQuery(), select=["status"], extract=paths)
        extracted = dict.fromkeys(paths) | {
            "text": 10**5000,
            "last": 10**5000,
            "deep": 2,
            "config": threads.get(thread_id)["config"],
        }
        assert found == [{"status": "idle", "extracted": extracted}]

    def test_shows_all_of_a_thread_by_default(self, world, threads):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "ask", {"text": "a"})
        found, _, _ = threads.search(ThreadQuery())
        assert found == [threads.get(thread_id)]


class TestWhatRedisDropped:
    @pytest.mark.parametrize("part", ["checkpoints", "values"])
    def test_is_said_of_the_state_and_hides_no_thread(self, world, threads, part):
        thread_id, other = (threads.create()["thread_id"] for _ in range(2))
        for each in (thread_id, other):
            world.run(each, "note", {"text": "a"})
        world.server.client.delete(f"test:{{{thread_id}}}:{part}")
        values = {each["thread_id"]: each["values"] for each in threads.search(ThreadQuery())[0]}
        assert (values[thread_id], values[other]["seen"]) == (None, ["a"])
        with pytest.raises(StateLost, match=thread_id):
            world.states.get(thread_id, "note")
        with pytest.raises(StateLost, match=thread_id):
            threads.copy(thread_id)
        assert world.server.client.zcard("{test}:threads:building") == 0
        threads.delete(thread_id)
        assert world.keys_of(thread_id) == []


class TestCopy:
    def test_holds_what_the_thread_holds_and_goes_its_own_way(self, world, threads):
        thread_id = threads.create(metadata={"a": 1}, ttl=60_000)["thread_id"]
        world.run(thread_id, "note", {"text": "a"})
        world.run(thread_id, "note", {"text": "b"})
        copied = threads.copy(thread_id)
        assert copied["thread_id"] != thread_id
        assert copied["metadata"] == {"a": 1, "graph_id": "note"}
        assert copied["values"] == {"text": "b", "seen": ["a", "b"]}
        assert threads.get(copied["thread_id"], ttl=True)["ttl"]["ttl_minutes"] == 1
        assert world.checkpoints(copied["thread_id"]) == world.checkpoints(thread_id)
        world.run(copied["thread_id"], "note", {"text": "c"})
        assert threads.get(thread_id)["values"]["seen"] == ["a", "b"]
        threads.delete(thread_id)
        assert threads.get(copied["thread_id"])["values"]["seen"] == ["a", "b", "c"]

    def test_waits_for_what_the_thread_waits_for(self, world, threads):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "ask", {"text": "a"})
        copied = threads.copy(thread_id)
        assert copied["status"] == "interrupted"
        assert copied["interrupts"] == threads.get(thread_id)["interrupts"]
        world.run(copied["thread_id"], "ask", Command(resume="yes"))
        assert threads.get(copied["thread_id"])["values"]["seen"] == ["yes"]
        assert threads.get(thread_id)["status"] == "interrupted"

    def test_of_a_busy_thread_is_idle_and_has_what_was_checkpointed(self, world, threads):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "note", {"text": "a"})
        world.change(thread_id, "status", "busy")
        world.change(thread_id, "active", "r1")
        copied = threads.copy(thread_id)
        assert (copied["status"], copied["values"]) == ("idle", {"text": "a", "seen": ["a"]})

    def test_of_an_empty_thread_is_empty(self, threads):
        copied = threads.copy(threads.create(metadata={"a": 1})["thread_id"])
        assert (copied["metadata"], copied["values"]) == ({"a": 1}, None)

    def test_that_fails_leaves_nothing(self, world, threads, monkeypatch):
        thread_id = threads.create()["thread_id"]

        def away(*_: Any) -> NoReturn:
            raise StorageUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(RedisSaver, "copy_thread", away)
            with pytest.raises(StorageUnavailable):
                threads.copy(thread_id)
        assert [each["thread_id"] for each in threads.search(ThreadQuery())[0]] == [thread_id]
        assert world.server.client.zcard("{test}:threads:building") == 0

    @pytest.mark.parametrize("again", [False, True])
    def test_of_a_thread_that_is_removed_meanwhile_is_none(
        self, world, threads, monkeypatch, again
    ):
        thread_id = threads.create()["thread_id"]
        world.run(thread_id, "note", {"text": "a"})
        copy_thread = RedisSaver.copy_thread

        def overtaken(*args: Any) -> None:
            threads.delete(thread_id)
            if again:
                threads.create(thread_id=thread_id)
            copy_thread(*args)

        monkeypatch.setattr(RedisSaver, "copy_thread", overtaken)
        with pytest.raises(ThreadNotFound):
            threads.copy(thread_id)
        found = [each["thread_id"] for each in threads.search(ThreadQuery())[0]]
        assert found == ([thread_id] if again else [])


class TestPrune:
    def test_removes_those_that_are_there_and_counts_them(self, world, threads):
        one, two = (threads.create()["thread_id"] for _ in range(2))
        assert threads.prune([one, one, str(uuid4())]) == 1
        assert threads.prune([one]) == 0
        assert [each["thread_id"] for each in threads.search(ThreadQuery())[0]] == [two]
        assert world.keys_of(one) == []

    def test_can_keep_the_latest_state(self, world, threads):
        thread_id, busy = (threads.create()["thread_id"] for _ in range(2))
        for each in (thread_id, busy):
            world.run(each, "note", {"text": "a"})
            world.run(each, "note", {"text": "b"})
        world.change(busy, "status", "busy")
        before = world.checkpoints(busy)
        assert threads.prune([thread_id, busy, str(uuid4())], "keep_latest") == 1
        assert world.checkpoints(thread_id) == 1
        assert threads.get(thread_id)["values"]["seen"] == ["a", "b"]
        assert world.checkpoints(busy) == before

    def test_leaves_alone_what_a_run_has_taken_since_it_began(self, world, threads, monkeypatch):
        thread_id = threads.create()["thread_id"]
        for text in ("a", "b"):
            world.run(thread_id, "note", {"text": text})
        before = world.checkpoints(thread_id)
        hold = world.records.hold

        def overtaken(thread_id: str) -> int:
            token = hold(thread_id)
            world.saver.raise_fence(thread_id, hold(thread_id))
            return token

        monkeypatch.setattr(world.records, "hold", overtaken)
        assert threads.prune([thread_id], "keep_latest") == 0
        assert world.checkpoints(thread_id) == before
