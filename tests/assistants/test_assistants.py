"""The system's assistants and the users', together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypedDict, cast
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.store.memory import InMemoryStore
from langgraph_sdk.runtime import ServerRuntime

from runwait.assistants.assistants import (
    UNTITLED,
    AssistantExists,
    AssistantRequest,
    Assistants,
    GraphNotFound,
    GraphNotMade,
    SystemAssistant,
    TwoContexts,
)
from runwait.graphs.assistants import Assistant, AssistantNotFound, UnknownGraph
from runwait.graphs.graph import Graph
from runwait.storage.assistants import AssistantQuery, AssistantRecords, VersionNotFound
from runwait.storage.connection import Storage, StorageUnavailable
from runwait.storage.threads import ThreadQuery
from runwait.threads.threads import Threads
from tests.servers import RedisServer

SINCE = 1_800_000_000.5


class State(TypedDict, total=False):
    value: Any


def a_graph(node: str = "node") -> Any:
    return StateGraph(State).add_node(node, lambda state: {}).add_edge(START, node).compile()


def made_by(config: RunnableConfig, runtime: ServerRuntime) -> Any:
    assert runtime.access_context == "assistants.read"
    assert runtime.execution_runtime is None
    assert isinstance(runtime.store, InMemoryStore)
    if config["configurable"]["node"] == "bad":
        raise ValueError("no luck")
    if config["configurable"]["node"] == "exit":
        sys.exit("no more")
    return a_graph(config["configurable"]["node"])


async def made_async(config: RunnableConfig) -> Any:
    await asyncio.sleep(0)
    return a_graph(config["configurable"]["node"])


left: list[str] = []


@asynccontextmanager
async def made_for_a_while(config: RunnableConfig) -> Any:
    yield a_graph("here")
    left.append("gone")


GRAPHS = {
    "echo": Graph("echo", a_graph(), "Says it again"),
    "other": Graph("other", a_graph("another")),
    "made": Graph("made", made_by),
    "made_async": Graph("made_async", made_async),
    "made_for_a_while": Graph("made_for_a_while", made_for_a_while),
}


class SomeThreads:
    """Threads, by id, with the assistant of each."""

    def __init__(self, threads: dict[str, str]) -> None:
        self.threads = threads

    def search(self, query: ThreadQuery, select: list[str]) -> tuple[list[Any], int, bool]:
        found = [
            {"thread_id": thread_id}
            for thread_id, assistant_id in self.threads.items()
            if {"assistant_id": assistant_id} == query.metadata
        ]
        return found[: query.limit], len(found), len(found) > query.limit

    def prune(self, thread_ids: Iterable[str]) -> int:
        return sum(self.threads.pop(each, None) is not None for each in thread_ids)


def assistants_of(
    storage: Storage, graphs: dict[str, Graph] | None = None, threads: SomeThreads | None = None
) -> Assistants:
    return Assistants(
        GRAPHS if graphs is None else graphs,
        AssistantRecords(storage, "test"),
        cast(Threads, threads or SomeThreads({})),
        InMemoryStore(),
        asyncio.run,
        SINCE,
    )


@pytest.fixture
def storage(shared_valkey: RedisServer) -> Iterator[Storage]:
    storage = Storage(shared_valkey.url, 1)
    storage.start()
    yield storage


@pytest.fixture
def assistants(storage: Storage) -> Assistants:
    return assistants_of(storage)


@pytest.fixture
def without_redis() -> Assistants:
    """Not started: whatever needs Redis fails."""
    return assistants_of(Storage("redis://127.0.0.1:1", 1))


ECHO = Assistant.of_graph("echo").assistant_id


def asked(graph_id: str | None = "echo", **given: Any) -> AssistantRequest:
    return AssistantRequest(graph_id=graph_id, **given)


class TestResolving:
    def test_the_systems_need_no_redis(self, without_redis: Assistants) -> None:
        for given in ("echo", ECHO, ECHO.upper()):
            found = without_redis.resolve(given)
            assert (found.assistant_id, found.graph_id) == (ECHO, "echo")
        assert found.public() == {
            "assistant_id": ECHO,
            "graph_id": "echo",
            "config": {},
            "context": {},
            "metadata": {"created_by": "system"},
            "name": "echo",
            "description": "Says it again",
            "version": 1,
            "created_at": "2027-01-15T08:00:00.500000+00:00",
            "updated_at": "2027-01-15T08:00:00.500000+00:00",
        }

    def test_a_users_needs_redis(self, without_redis: Assistants) -> None:
        with pytest.raises(StorageUnavailable):
            without_redis.resolve(str(uuid4()))

    def test_a_users_is_found_in_another_process_at_once(
        self, assistants: Assistants, shared_valkey: RedisServer
    ) -> None:
        another_storage = Storage(shared_valkey.url, 1)
        another_storage.start()
        another = assistants_of(another_storage)
        made = assistants.create(asked(context={"a": 1}))
        assert another.resolve(made.assistant_id.upper()) == made
        changed = assistants.patch(made.assistant_id, asked(None, context={"a": 2}))
        assert another.resolve(made.assistant_id) == changed
        assistants.delete(made.assistant_id)
        with pytest.raises(AssistantNotFound, match=made.assistant_id):
            another.resolve(made.assistant_id)

    def test_what_is_neither_a_uuid_nor_a_graph_hears_of_the_graphs(
        self, without_redis: Assistants
    ) -> None:
        with pytest.raises(UnknownGraph, match="one of the graphs: echo, other, made"):
            without_redis.resolve("nope")

    def test_an_assistant_whose_graph_is_gone_is_shown_but_not_run(self, storage: Storage) -> None:
        made = assistants_of(storage).create(asked("other"))
        later = assistants_of(storage, {"echo": GRAPHS["echo"]})
        assert later.get(made.assistant_id) == made
        with pytest.raises(UnknownGraph, match=r"graph 'other' must be one of the graphs: echo"):
            later.resolve(made.assistant_id)


class TestCreating:
    def test_what_is_not_said_has_defaults(self, assistants: Assistants) -> None:
        made = assistants.create(asked())
        assert (made.name, made.description, made.version) == (UNTITLED, None, 1)
        assert (made.config, made.context, made.metadata) == ({}, {}, {})
        assert assistants.create(asked(name="")).name == UNTITLED

    @pytest.mark.parametrize(
        ("given", "config", "context"),
        [
            ({"context": {"a": 1}}, {"configurable": {"a": 1}}, {"a": 1}),
            ({"config": {"configurable": {"a": 1}}}, {"configurable": {"a": 1}}, {"a": 1}),
            (
                {"config": {"tags": ["t"], "configurable": {}}, "context": {"a": 1}},
                {"tags": ["t"], "configurable": {"a": 1}},
                {"a": 1},
            ),
            (
                {"config": {"configurable": {"a": 1}}, "context": {}},
                {"configurable": {"a": 1}},
                {"a": 1},
            ),
            ({"config": {"tags": ["t"]}}, {"tags": ["t"]}, {}),
        ],
    )
    def test_configurable_and_context_are_one(
        self, assistants: Assistants, given: Any, config: Any, context: Any
    ) -> None:
        made = assistants.create(asked(**given))
        assert (made.config, made.context) == (config, context)

    def test_both_configurable_and_context_are_refused(self, assistants: Assistants) -> None:
        with pytest.raises(TwoContexts):
            assistants.create(asked(config={"configurable": {"a": 1}}, context={"b": 1}))
        assert assistants.count(AssistantQuery()) == len(GRAPHS)

    def test_an_unknown_graph_is_refused(self, assistants: Assistants) -> None:
        with pytest.raises(GraphNotFound, match="'nope' not found; the graphs are: echo, other"):
            assistants.create(asked("nope"))

    def test_an_id_is_taken_once(self, assistants: Assistants) -> None:
        chosen = str(uuid4())
        made = assistants.create(asked(), chosen.upper())
        assert made.assistant_id == chosen
        with pytest.raises(AssistantExists, match=chosen):
            assistants.create(asked("other"), chosen)
        assert assistants.create(asked("other"), chosen, "do_nothing") == made

    def test_the_systems_ids_are_taken(self, assistants: Assistants) -> None:
        with pytest.raises(AssistantExists):
            assistants.create(asked("other"), ECHO.upper())
        found = assistants.create(asked("other"), ECHO, "do_nothing")
        assert found == assistants.get("echo")


class TestPatching:
    def test_only_what_is_given_changes(self, assistants: Assistants) -> None:
        made = assistants.create(
            asked(name="n", description="d", context={"a": 1}, metadata={"x": 1})
        )
        changed = assistants.patch(made.assistant_id, asked(None, metadata={"y": None}))
        assert changed.metadata == {"x": 1, "y": None}
        assert changed.version == 2
        same = ("assistant_id", "graph_id", "config", "context", "name", "description")
        assert all(getattr(changed, each) == getattr(made, each) for each in same)

    @pytest.mark.parametrize(
        ("given", "config", "context"),
        [
            ({"context": {"b": 2}}, {"tags": ["t"], "configurable": {"b": 2}}, {"b": 2}),
            ({"context": {}}, {"tags": ["t"]}, {}),
            ({"config": {}}, {"configurable": {"a": 1}}, {"a": 1}),
            ({"config": {"configurable": {}}}, {}, {}),
            ({"config": {"configurable": {"b": 2}}}, {"configurable": {"b": 2}}, {"b": 2}),
            (
                {"config": {"tags": ["u"]}, "context": {"b": 2}},
                {"tags": ["u"], "configurable": {"b": 2}},
                {"b": 2},
            ),
            ({"config": {}, "context": {}}, {}, {}),
            ({}, {"tags": ["t"], "configurable": {"a": 1}}, {"a": 1}),
        ],
    )
    def test_config_and_context_are_replaced_and_stay_one(
        self, assistants: Assistants, given: Any, config: Any, context: Any
    ) -> None:
        made = assistants.create(asked(config={"tags": ["t"], "configurable": {"a": 1}}))
        changed = assistants.patch(made.assistant_id, asked(None, **given))
        assert (changed.config, changed.context) == (config, context)
        assert assistants.get(made.assistant_id) == changed

    def test_what_is_refused_changes_nothing(self, assistants: Assistants) -> None:
        made = assistants.create(asked())
        with pytest.raises(TwoContexts):
            both = asked(None, config={"configurable": {"a": 1}}, context={"b": 1})
            assistants.patch(made.assistant_id, both)
        with pytest.raises(GraphNotFound):
            assistants.patch(made.assistant_id, asked("nope"))
        assert assistants.get(made.assistant_id) == made

    def test_an_unknown_one_is_not_found(self, assistants: Assistants) -> None:
        with pytest.raises(AssistantNotFound):
            assistants.patch(str(uuid4()), asked(None, name="x"))


class TestVersions:
    def test_a_return_brings_the_graph_back_too(self, assistants: Assistants) -> None:
        made = assistants.create(asked("echo", context={"a": 1}))
        assistants.patch(made.assistant_id, asked("other", context={}))
        turned = assistants.set_latest(made.assistant_id, 1)
        assert (turned.graph_id, turned.context, turned.version) == ("echo", {"a": 1}, 1)
        with pytest.raises(VersionNotFound, match="no version 3"):
            assistants.set_latest(made.assistant_id, 3)
        listed = assistants.versions(made.assistant_id, metadata={}, limit=10, offset=0)
        assert [(each.version, each.graph_id) for each in listed] == [(2, "other"), (1, "echo")]

    def test_the_systems_have_one(self, without_redis: Assistants) -> None:
        def versions(**given: Any) -> list[Assistant]:
            options = {"metadata": {}, "limit": 10, "offset": 0, **given}
            return without_redis.versions("echo", **options)

        assert (
            versions() == versions(metadata={"created_by": "system"}) == [without_redis.get("echo")]
        )
        assert versions(offset=1) == versions(metadata={"created_by": "me"}) == []

    def test_an_unknown_assistant_has_none(self, assistants: Assistants) -> None:
        with pytest.raises(AssistantNotFound):
            assistants.versions(str(uuid4()), metadata={}, limit=1, offset=0)
        with pytest.raises(AssistantNotFound):
            assistants.set_latest(str(uuid4()), 1)
        with pytest.raises(UnknownGraph):
            assistants.versions("nope", metadata={}, limit=1, offset=0)


class TestDeleting:
    def test_the_threads_stay(self, storage: Storage) -> None:
        assistants = assistants_of(storage)
        made = assistants.create(asked())
        threads = SomeThreads({"t": made.assistant_id})
        assistants_of(storage, threads=threads).delete(made.assistant_id)
        assert threads.threads == {"t": made.assistant_id}
        with pytest.raises(AssistantNotFound):
            assistants.get(made.assistant_id)
        with pytest.raises(AssistantNotFound):
            assistants.delete(made.assistant_id)

    def test_the_threads_go_if_asked_for(self, storage: Storage) -> None:
        made = assistants_of(storage).create(asked())
        threads = {str(number): made.assistant_id for number in range(250)}
        some = SomeThreads({**threads, "another's": ECHO})
        assistants_of(storage, threads=some).delete(made.assistant_id.upper(), delete_threads=True)
        assert some.threads == {"another's": ECHO}

    def test_the_threads_of_an_unknown_one_stay(self, storage: Storage) -> None:
        gone = str(uuid4())
        threads = SomeThreads({"t": gone})
        with pytest.raises(AssistantNotFound):
            assistants_of(storage, threads=threads).delete(gone, delete_threads=True)
        assert threads.threads == {"t": gone}


@pytest.mark.parametrize("which", ["echo", ECHO, ECHO.upper()])
def test_the_systems_can_be_neither_changed_nor_deleted(
    without_redis: Assistants, which: str
) -> None:
    for refused in (
        lambda: without_redis.patch(which, asked(None, name="mine")),
        lambda: without_redis.set_latest(which, 1),
        lambda: without_redis.delete(which),
        lambda: without_redis.delete(which, delete_threads=True),
    ):
        with pytest.raises(SystemAssistant, match="came with the graph 'echo'"):
            refused()


class TestSearching:
    def names(self, assistants: Assistants, limit: int = 100, offset: int = 0, **query: Any) -> Any:
        found, total, more = assistants.search(AssistantQuery(**query), limit, offset)
        assert total == assistants.count(AssistantQuery(**query))
        assert more == (offset + limit < total)
        return [each.name for each in found]

    @pytest.fixture
    def some(self, assistants: Assistants) -> Assistants:
        for name in ("zebra", "Ember", "make", "ant"):
            assistants.create(asked(name=name, metadata={"mine": True}))
        return assistants

    def test_the_systems_are_among_the_users(self, some: Assistants) -> None:
        assert self.names(some, sort_by="name", sort_order="asc") == [
            "ant", "echo", "Ember", "made", "made_async", "made_for_a_while", "make", "other",
            "zebra",
        ]  # fmt: skip

    def test_the_systems_stand_as_langgraph_json_has_them(self, some: Assistants) -> None:
        found = self.names(some, sort_order="asc", metadata={"created_by": "system"})
        assert found == list(GRAPHS)

    @pytest.mark.parametrize("sort_by", ["name", "created_at", "updated_at", "assistant_id"])
    @pytest.mark.parametrize("sort_order", ["asc", "desc"])
    @pytest.mark.parametrize("limit", [1, 2, 5])
    def test_pages_put_together_are_the_whole(
        self, some: Assistants, sort_by: Any, sort_order: Any, limit: int
    ) -> None:
        order = {"sort_by": sort_by, "sort_order": sort_order}
        whole = self.names(some, **order)
        assert len(set(whole)) == 9
        pages = [self.names(some, limit, offset, **order) for offset in range(0, 12, limit)]
        assert [each for page in pages for each in page] == whole

    def test_filters_are_for_both_kinds(self, some: Assistants) -> None:
        assert self.names(some, metadata={"mine": True}, name="E") == ["make", "Ember", "zebra"]
        assert self.names(some, graph_id="echo", name="e", sort_by="name") == [
            "zebra", "make", "Ember", "echo",
        ]  # fmt: skip
        assert self.names(some, graph_id="other") == ["other"]

    def test_an_unknown_graph_is_refused(self, assistants: Assistants) -> None:
        with pytest.raises(GraphNotFound):
            assistants.search(AssistantQuery(graph_id="nope"), 1, 0)
        with pytest.raises(GraphNotFound):
            assistants.count(AssistantQuery(graph_id="nope"))


class TestLooking:
    def nodes(self, assistants: Assistants, assistant_id: str) -> set[str]:
        drawn = assistants.graph(assistant_id)
        return {each["id"] for each in drawn["nodes"]} - {"__start__", "__end__"}

    def test_a_graph_is_known_by_name_without_redis(self, without_redis: Assistants) -> None:
        assert self.nodes(without_redis, "echo") == {"node"}
        assert without_redis.schemas(ECHO)["graph_id"] == "echo"
        assert without_redis.subgraphs("echo") == {}

    @pytest.mark.parametrize("graph_id", ["made", "made_async"])
    def test_a_factory_gets_the_assistants_config(
        self, assistants: Assistants, graph_id: str
    ) -> None:
        made = assistants.create(asked(graph_id, context={"node": "mine"}))
        assert self.nodes(assistants, made.assistant_id) == {"mine"}
        assert assistants.schemas(made.assistant_id)["graph_id"] == graph_id
        assert assistants.subgraphs(made.assistant_id) == {}

    def test_a_factory_cleans_up(self, assistants: Assistants) -> None:
        left.clear()
        assert self.nodes(assistants, "made_for_a_while") == {"here"}
        assert left == ["gone"]

    @pytest.mark.parametrize("graph_id", ["made", "made_async"])
    def test_what_a_factory_raises_is_told(self, assistants: Assistants, graph_id: str) -> None:
        with pytest.raises(GraphNotMade, match=f"graph '{graph_id}' was not made: KeyError"):
            assistants.graph(graph_id)
        made = assistants.create(asked("made", context={"node": "bad"}))
        with pytest.raises(GraphNotMade, match="ValueError: no luck"):
            assistants.schemas(made.assistant_id)
        made = assistants.create(asked("made", context={"node": "exit"}))
        with pytest.raises(GraphNotMade, match="SystemExit: no more"):
            assistants.schemas(made.assistant_id)
