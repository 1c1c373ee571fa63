"""LangGraph's Python SDK and RemoteGraph with assistants, against two workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import ConflictError, NotFoundError, PermissionDeniedError

from runwait.graphs.assistants import Assistant
from tests.e2e.calls import detail, output, post
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, ServerFactory, eventually

Call = Callable[..., Any]
ECHO = Assistant.of_graph("echo").assistant_id


@pytest.fixture(params=["sync", "async"])
def assistants(request: pytest.FixtureRequest, zoo: Server) -> Call:
    """Calls a method of the SDK's `client.assistants`, by name."""

    def call(method: str, *args: Any, **options: Any) -> Any:
        if request.param == "sync":
            with get_sync_client(url=zoo.url) as client:
                return getattr(client.assistants, method)(*args, **options)
        return asyncio.run(call_async(method, *args, **options))

    async def call_async(method: str, *args: Any, **options: Any) -> Any:
        async with get_client(url=zoo.url) as client:
            return await getattr(client.assistants, method)(*args, **options)

    return call


@pytest.fixture
def mark(zoo: Server) -> Iterator[str]:
    """Metadata `mark` of this test's assistants, which go with it."""
    value = uuid4().hex
    yield value
    with get_sync_client(url=zoo.url) as client:
        for each in client.assistants.search(metadata={"mark": value}, limit=1000):
            client.assistants.delete(each["assistant_id"])


def each_worker(server: Server, call: Callable[[], Any], times: int = 20) -> list[Any]:
    """What a call gives over connections of its own, which go to one worker or the other."""
    return [call() for _ in range(times)]


class TestAUsersAssistant:
    def test_is_made_found_changed_and_deleted(self, assistants: Call, mark: str) -> None:
        made = assistants(
            "create",
            "echo",
            {"tags": ["t"]},
            context={"a": 1},
            metadata={"mark": mark},
            name="Mine",
            description="d",
        )
        assert (made["version"], made["name"], made["description"]) == (1, "Mine", "d")
        assert made["config"] == {"tags": ["t"], "configurable": {"a": 1}}
        assert assistants("get", made["assistant_id"]) == made
        changed = assistants("update", made["assistant_id"], name="Still mine", context={})
        assert (changed["version"], changed["config"]) == (2, {"tags": ["t"]})
        assert assistants("get", made["assistant_id"]) == changed
        versions = assistants("get_versions", made["assistant_id"])
        assert [each["name"] for each in versions] == ["Still mine", "Mine"]
        latest = assistants("set_latest", made["assistant_id"], 1)
        assert (latest["version"], latest["name"]) == (1, "Mine")
        assert assistants("delete", made["assistant_id"]) is None
        with pytest.raises(NotFoundError):
            assistants("get", made["assistant_id"])

    def test_is_searched_and_counted(self, assistants: Call, mark: str) -> None:
        for number in range(3):
            name = f"searched {number}"
            assistants("create", "echo", metadata={"mark": mark, "n": number}, name=name)
        wanted = {"metadata": {"mark": mark}}
        assert assistants("count", **wanted, name="SEARCHED") == 3
        page = assistants("search", **wanted, limit=2, sort_by="name", response_format="object")
        assert [each["name"] for each in page["assistants"]] == ["searched 2", "searched 1"]
        assert page["next"] == "2"
        rest = assistants("search", **wanted, offset=2, sort_by="name", select=["name"])
        assert rest == [{"name": "searched 0"}]

    def test_has_an_id_of_its_own(self, assistants: Call, mark: str) -> None:
        chosen = str(uuid4())
        given = {"assistant_id": chosen, "metadata": {"mark": mark}}
        made = assistants("create", "echo", **given)
        assert made["assistant_id"] == chosen
        with pytest.raises(ConflictError):
            assistants("create", "echo", **given)
        assert assistants("create", "echo", **given, if_exists="do_nothing") == made

    def test_runs_in_every_process_at_once_as_it_is_now(self, zoo: Server, mark: str) -> None:
        def seen() -> Any:
            answer = httpx.post(
                f"{zoo.url}/runs/wait", json={"assistant_id": made, "input": {}}, timeout=PATIENCE
            )
            return answer.json()["seen"]

        with get_sync_client(url=zoo.url) as client:
            given = {"metadata": {"mark": mark}}
            made = client.assistants.create("who", context={"n": 0}, **given)["assistant_id"]
            for number in (1, 2):
                client.assistants.update(made, context={"n": number})
                for facts in each_worker(zoo, seen):
                    assert facts["context"] == {"n": number}
                    assert facts["configurable"]["n"] == number
                    assert facts["configurable"]["assistant_id"] == made
                    assert facts["metadata"]["mark"] == mark

    def test_does_not_run_once_it_is_deleted(self, zoo: Server, mark: str) -> None:
        with get_sync_client(url=zoo.url) as client:
            made = client.assistants.create("echo", metadata={"mark": mark})["assistant_id"]
            assert output(zoo, made, input={"value": 1}) == {"value": 1}
            client.assistants.delete(made)
            body = {"assistant_id": made, "input": {}}
            for answer in each_worker(
                zoo, lambda: httpx.post(f"{zoo.url}/runs/wait", json=body, timeout=PATIENCE)
            ):
                assert made in detail(answer, 404)

    def test_shows_its_graph(self, assistants: Call, mark: str) -> None:
        made = assistants("create", "subgraph", metadata={"mark": mark})["assistant_id"]
        schemas = assistants("get_schemas", made)
        assert schemas["graph_id"] == "subgraph"
        assert set(schemas["state_schema"]["properties"]) == {"value", "names"}
        assert list(assistants("get_subgraphs", made)) == ["child"]
        assert list(assistants("get_subgraphs", made, "child", recurse=True)) == ["child"]
        drawn = assistants("get_graph", made, xray=1)
        assert [each["id"] for each in drawn["nodes"] if each["id"][0] != "_"] == [
            "first",
            "third",
            "child:second",
        ]


class TestTheSystemsAssistant:
    def test_is_the_same_in_every_process(self, zoo: Server) -> None:
        def found() -> Any:
            return httpx.get(f"{zoo.url}/assistants/{ECHO}", timeout=PATIENCE).text

        assert len(set(each_worker(zoo, found))) == 1

    def test_may_be_read_by_its_graphs_name(self, assistants: Call) -> None:
        assert assistants("get", "echo") == assistants("get", ECHO)
        assert assistants("get_schemas", "echo")["graph_id"] == "echo"
        [only] = assistants("get_versions", "echo")
        assert (only["version"], only["metadata"]) == (1, {"created_by": "system"})

    def test_stays_as_it_is(self, assistants: Call) -> None:
        before = assistants("get", ECHO)
        for refused in (
            lambda: assistants("update", ECHO, name="mine"),
            lambda: assistants("set_latest", ECHO, 1),
            lambda: assistants("delete", ECHO),
        ):
            with pytest.raises(PermissionDeniedError):
                refused()
        assert assistants("get", ECHO) == before

    @pytest.mark.parametrize(
        "graph_id", ["factory", "factory_config", "factory_runtime", "factory_async", "factory_cm"]
    )
    def test_of_a_factory_shows_the_graph_that_it_makes(
        self, assistants: Call, graph_id: str
    ) -> None:
        nodes = {each["id"] for each in assistants("get_graph", graph_id)["nodes"]}
        assert nodes == {"__start__", "node", "__end__"}


def test_a_remote_graph_is_drawn(zoo: Server) -> None:
    remote = RemoteGraph("subgraph", url=zoo.url)
    drawn = remote.get_graph()
    assert set(drawn.nodes) == {"__start__", "first", "child", "third", "__end__"}
    assert ("__start__", "first") in {(each.source, each.target) for each in drawn.edges}
    deeper = asyncio.run(remote.aget_graph(xray=True))
    assert set(deeper.nodes) == {"__start__", "first", "child:second", "third", "__end__"}
    assert "first" in drawn.draw_mermaid()


def test_threads_go_with_their_assistant_only_if_asked_for(zoo: Server, mark: str) -> None:
    with get_sync_client(url=zoo.url) as client:
        made = client.assistants.create("echo", metadata={"mark": mark})["assistant_id"]
        for delete_threads in (False, True):
            client.runs.wait(None, made, input={"value": 1}, on_completion="keep")
            thread = {"assistant_id": made}
            [found] = client.threads.search(metadata=thread)
            [run] = client.runs.list(found["thread_id"])
            client.assistants.delete(made, delete_threads=delete_threads)
            assert client.threads.count(metadata=thread) == (0 if delete_threads else 1)
            if not delete_threads:
                ids = found["thread_id"], run["run_id"]
                assert client.runs.get(*ids) == run
                assert client.runs.join(*ids) == {"value": 1}
            for each in client.threads.search(metadata=thread):
                client.threads.delete(each["thread_id"])
            client.assistants.create("echo", assistant_id=made, metadata={"mark": mark})


def test_without_redis_the_systems_serve_and_the_users_say_why_not(
    serve: ServerFactory, valkey: RedisServer
) -> None:
    project = PROJECTS / "zoo" / "langgraph.json"
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=project, WEB_CONCURRENCY=1)
    made = server.http.post("/assistants", json={"graph_id": "echo"}).json()["assistant_id"]
    valkey.stop()
    assert output(server, "echo", input={"value": 1}) == {"value": 1}
    assert server.http.get("/assistants/echo").status_code == 200
    assert server.http.get("/assistants/echo/graph").status_code == 200
    for refused in (
        post(server, made),
        server.http.get(f"/assistants/{made}"),
        server.http.post("/assistants/search", json={}),
        server.http.post("/assistants", json={"graph_id": "echo"}),
    ):
        assert detail(refused, 503)
        assert refused.headers["Retry-After"]
    valkey.start()
    eventually(lambda: server.http.get(f"/assistants/{made}").status_code == 200)
    assert output(server, made, input={"value": 1}) == {"value": 1}
