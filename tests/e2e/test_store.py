"""The store through two workers: with LangGraph's SDK, and from the nodes of graphs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import UnprocessableEntityError

from runwait.api.store import MOST_ENCODED
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, ServerFactory

Call = Callable[..., Any]
CONFIG = str(PROJECTS / "memory_agent" / "langgraph.json")


@pytest.fixture(scope="module")
def workers(shared: ServerFactory) -> Server:
    """Two workers that serve the memory agent."""
    return shared(LANGGRAPH_CONFIG=CONFIG, WEB_CONCURRENCY=2)


@pytest.fixture
def agent(workers: Server) -> Server:
    """The workers, with nothing in the store."""
    workers.valkey.client.flushall()
    return workers


@pytest.fixture(params=["sync", "async"])
def store(request: pytest.FixtureRequest, agent: Server) -> Call:
    """Calls a method of the SDK's `client.store`, on a connection of its own."""

    def call(name: str, *args: Any, **options: Any) -> Any:
        if request.param == "sync":
            with get_sync_client(url=agent.url) as client:
                return getattr(client.store, name)(*args, **options)
        return asyncio.run(call_async(name, *args, **options))

    async def call_async(name: str, *args: Any, **options: Any) -> Any:
        async with get_client(url=agent.url) as client:
            return await getattr(client.store, name)(*args, **options)

    return call


def say(server: Server, text: str, user: str = "ada") -> str:
    """What the agent answers, on a connection of its own: either worker may take it."""
    body = {
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": text}]},
        "context": {"user_id": user},
    }
    answer = httpx.post(f"{server.url}/runs/wait", json=body, timeout=PATIENCE).json()
    said: str = answer["messages"][-1]["content"]
    return said


def known(answer: str) -> str:
    """What the agent says that it knows."""
    return answer.partition("You know: ")[2]


class TestSDK:
    def test_puts_gets_and_deletes_items(self, store: Call) -> None:
        namespace = ["users", "ada"]
        assert store("get_item", namespace, "tea") is None
        assert store("put_item", namespace, "tea", {"likes": True}) is None
        item = store("get_item", namespace, "tea")
        assert (item["namespace"], item["key"]) == (namespace, "tea")
        assert item["value"] == {"likes": True}
        store("put_item", namespace, "tea", {"likes": False}, index=False, ttl=5)
        again = store("get_item", namespace, key="tea", refresh_ttl=True)
        assert again["value"] == {"likes": False}
        assert again["created_at"] == item["created_at"] < again["updated_at"]
        assert store("delete_item", namespace, "tea") is None
        assert store("get_item", namespace, "tea", refresh_ttl=False) is None

    def test_gets_whatever_can_be_put(self, store: Call) -> None:
        for namespace, letter in ((["n"], "k"), (["n", "m"], "/"), (["ü"], " "), (["n"], "ü")):
            taken = len(quote(".".join(namespace), safe=""))
            key = letter * ((MOST_ENCODED - taken) // len(quote(letter, safe="")))
            store("put_item", namespace, key, {"a": 1})
            item = store("get_item", namespace, key, refresh_ttl=False)
            assert (item["key"], item["value"]) == (key, {"a": 1})
            with pytest.raises(UnprocessableEntityError, match="at most 3900 bytes"):
                store("put_item", namespace, key + letter, {"a": 1})

    def test_searches_items_and_lists_namespaces(self, store: Call) -> None:
        for i in range(5):
            store("put_item", ["notes", f"user {i % 2}"], f"n{i}", {"i": i})
        found = store("search_items", ["notes"], filter={"i": {"$gte": 1}}, limit=3, offset=1)
        assert [each["key"] for each in found["items"]] == ["n4", "n1", "n3"]
        found = store("search_items", ["notes", "user 1"], refresh_ttl=False)
        assert [each["value"]["i"] for each in found["items"]] == [1, 3]
        assert store("list_namespaces", prefix=["notes"], suffix=["user 1"]) == {
            "namespaces": [["notes", "user 1"]]
        }
        assert store("list_namespaces", max_depth=1, limit=1) == {"namespaces": [["notes"]]}

    def test_is_served_by_all_workers_at_once(self, store: Call) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: store("put_item", ["many"], str(i), {"i": i}), range(40)))
            found = list(pool.map(lambda i: store("get_item", ["many"], str(i)), range(40)))
        assert [each["value"]["i"] for each in found] == list(range(40))
        assert len(store("search_items", ["many"], limit=100)["items"]) == 40


class TestMemoryAgent:
    def test_remembers_from_one_run_to_the_next_in_whichever_process(
        self, serve: ServerFactory, valkey: RedisServer
    ) -> None:
        agent = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=CONFIG)
        say(agent, "remember likes tea; is tall")
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: known(say(agent, "hello")), range(20)))
        assert set(answers) == {"is tall; likes tea"}
        assert known(say(agent, "hello", user="bob")) == "nothing"
        agent.stop()
        later = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=CONFIG)
        assert known(say(later, "hello")) == "is tall; likes tea"

    def test_shares_its_memories_with_the_clients_of_the_store(
        self, agent: Server, store: Call
    ) -> None:
        say(agent, "remember likes tea")
        (item,) = store("search_items", ["memories", "ada"])["items"]
        assert item["value"] == {"content": "likes tea", "context": "in conversation"}
        store("put_item", ["memories", "ada"], "given", {"content": "sings"})
        assert known(say(agent, "hello")) == "likes tea; sings"
        store("delete_item", ["memories", "ada"], item["key"])
        assert known(say(agent, "hello")) == "sings"


def test_nodes_that_are_not_async_share_it_too(serve: ServerFactory, valkey: RedisServer) -> None:
    config = str(PROJECTS / "zoo" / "langgraph.json")
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=config, WEB_CONCURRENCY=2)

    def run(**given: str) -> Any:
        body = {"assistant_id": "memory", "input": {"user": "ada", **given}}
        return httpx.post(f"{server.url}/runs/wait", json=body, timeout=PATIENCE).json()["facts"]

    facts = [f"fact {i}" for i in range(10)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda fact: run(fact=fact), facts))
    assert [run() for _ in range(4)] == [facts] * 4
