"""States read and changed by LangGraph's SDK and RemoteGraph, across two processes.

What is expected was recorded from the official server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import SyncLangGraphClient
from langgraph_sdk.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    UnprocessableEntityError,
)

from tests.servers import PROJECTS, Server, ServerFactory

TIMES = 4  # so that both workers have most likely answered


@pytest.fixture(scope="module")
def server(shared: ServerFactory) -> Server:
    """Two workers that serve tests/projects/states."""
    return shared(LANGGRAPH_CONFIG=PROJECTS / "states" / "langgraph.json")


@pytest.fixture
def client(server: Server) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=server.url) as client:
        yield client


def ran(client: SyncLangGraphClient, graph_id: str, input: Any, **options: Any) -> str:
    """A thread on which the graph ran to its end or its next stop."""
    thread = str(uuid4())
    client.runs.wait(
        thread, graph_id, input=input, if_not_exists="create", raise_error=False, **options
    )
    return thread


def seen(states: list[Any]) -> list[Any]:
    return [(each["values"].get("seen"), each["next"]) for each in states]


def test_a_state_is_the_same_from_every_process(client):
    thread = ran(client, "parallel", {"text": "x"})
    state = client.threads.get_state(thread)
    for _ in range(TIMES):
        assert client.threads.get_state(thread) == state
    assert state["values"] == {"text": "x", "seen": ["a"]}
    assert state["next"] == ["left", "right"]
    assert [each["value"] for each in state["interrupts"]] == [{"ask": "left"}, {"ask": "right"}]
    assert [task["path"] for task in state["tasks"]] == [
        ["__pregel_pull", "left"],
        ["__pregel_pull", "right"],
    ]
    assert (
        state["metadata"].items() >= {"source": "loop", "step": 1, "graph_id": "parallel"}.items()
    )
    assert {"run_id", "assistant_id"} <= state["metadata"].keys()


def test_a_history_is_newest_first_and_read_in_parts(client):
    thread = ran(client, "plain", {"text": "hi"}, metadata={"m": 1})
    states = client.threads.get_history(thread)
    assert seen(states) == [(["a", "b"], []), (["a"], ["b"]), ([], ["a"]), ([], ["__start__"])]
    assert states[0] == client.threads.get_state(thread)
    second = states[1]
    for before in (second["checkpoint_id"], second["checkpoint"]):
        assert client.threads.get_history(thread, before=before) == states[2:]
    assert client.threads.get_history(thread, limit=1) == states[:1]
    assert client.threads.get_history(thread, metadata={"source": "input"}) == states[3:]
    assert client.threads.get_history(thread, metadata={"m": 2}) == []


def test_a_state_within_is_read_by_its_checkpoint(client):
    thread = ran(client, "plain", {"text": "hi"})
    second = client.threads.get_history(thread)[1]
    by_id = client.threads.get_state(thread, checkpoint_id=second["checkpoint_id"])
    by_checkpoint = client.threads.get_state(thread, checkpoint=second["checkpoint"])
    assert by_id == by_checkpoint == second


def test_a_subgraph_is_read_with_its_graph_and_by_itself(client):
    thread = ran(client, "subgraph", {"text": "x"})
    [outside] = client.threads.get_state(thread)["tasks"]
    [task] = client.threads.get_state(thread, subgraphs=True)["tasks"]
    assert (outside["state"], task["checkpoint"]) == (None, None)
    assert task["state"]["values"] == {"text": "x", "inside": "x!"}
    assert client.threads.get_state(thread, checkpoint=outside["checkpoint"]) == task["state"]
    states = client.threads.get_history(thread, checkpoint=outside["checkpoint"])
    assert [each["next"] for each in states] == [["approve"], ["inside"], ["__start__"]]


def test_an_update_answers_for_a_task_and_the_run_goes_on_from_it(client):
    thread = ran(client, "parallel", {"text": "x"})
    answer = client.threads.update_state(
        thread, {"text": "u", "seen": ["answered"]}, as_node="left"
    )
    state = client.threads.get_state(thread)
    assert answer == {
        "checkpoint": state["checkpoint"],
        "configurable": state["checkpoint"],
        "checkpoint_id": state["checkpoint_id"],
    }
    assert state["values"] == {"text": "u", "seen": ["a", "answered"]}
    found = client.threads.get(thread)
    assert (found["status"], found["interrupts"]) == ("idle", {})
    assert found["values"] == state["values"]


def test_a_fork_goes_on_from_an_old_checkpoint(client):
    thread = ran(client, "plain", {"text": "hi"})
    second = client.threads.get_history(thread)[1]
    client.threads.update_state(
        thread, {"text": "fork"}, as_node="a", checkpoint=second["checkpoint"]
    )
    assert client.threads.get(thread)["status"] == "interrupted"
    answer = client.runs.wait(thread, "plain", input=None)
    assert answer == {"text": "fork", "seen": ["a", "b"]}
    states = client.threads.get_history(thread)
    assert states[1]["parent_checkpoint"] == second["checkpoint"]


@pytest.mark.parametrize("graph_id", ["branch", "factory", "sync_factory"])
def test_graphs_that_need_the_event_loop_or_a_factory_have_states_too(client, graph_id):
    thread = ran(client, graph_id, {"text": "b"})
    assert client.threads.get_state(thread)["values"] == {"text": "b", "seen": ["a", "b"]}
    client.threads.update_state(thread, {"seen": ["u"]}, as_node="a")
    assert client.threads.get_state(thread)["next"] == ["b"]
    assert client.threads.get_history(thread, limit=1)[0]["metadata"]["source"] == "update"


def test_a_thread_is_made_from_supersteps(client):
    thread = client.threads.create(
        graph_id="plain",
        supersteps=[
            {"updates": [{"values": {"text": "i"}, "as_node": "__input__"}]},
            {"updates": [{"values": {"text": "i"}, "as_node": "__start__"}]},
            {"updates": [{"values": {"seen": ["z"]}, "as_node": "a"}]},
        ],
    )
    assert thread["status"] == "interrupted"
    answer = client.runs.wait(thread["thread_id"], "plain", input=None)
    assert answer == {"text": "i", "seen": ["z", "b"]}


def test_a_thread_without_runs_is_empty(client):
    thread = client.threads.create()["thread_id"]
    state = client.threads.get_state(thread)
    assert state == {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": None,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }
    assert client.threads.get_history(thread) == []
    with pytest.raises(BadRequestError):
        client.threads.update_state(thread, {"text": "x"})


class TestBadInput:
    def test_an_unknown_thread_or_checkpoint_is_not_found(self, client):
        thread, unknown = ran(client, "plain", {"text": "x"}), str(uuid4())
        for call in (
            lambda: client.threads.get_state(unknown),
            lambda: client.threads.get_history(unknown),
            lambda: client.threads.update_state(unknown, {}),
            lambda: client.threads.get_state(thread, checkpoint_id=unknown),
            lambda: client.threads.get_state(thread, checkpoint={"checkpoint_id": unknown}),
            lambda: client.threads.update_state(thread, {}, checkpoint_id=unknown),
        ):
            with pytest.raises(NotFoundError):
                call()

    def test_what_the_graph_does_not_take_is_refused_and_changes_nothing(self, client):
        thread = ran(client, "parallel", {"text": "x"})
        state = client.threads.get_state(thread)
        for values, as_node, reason in (
            ({}, "nope", "as_node: the graph has no node 'nope'"),
            ({"seen": 5}, "left", "channel 'seen'"),
            ([{"seen": 5}], "left", "Expected dict"),
        ):
            with pytest.raises(UnprocessableEntityError) as raised:
                client.threads.update_state(thread, values, as_node=as_node)
            assert reason in raised.value.response.json()["detail"]
        for _ in range(TIMES):
            assert client.threads.get_state(thread) == state

    @pytest.mark.parametrize(
        ("graph_id", "update", "reason"),
        [
            (
                "plain",
                {"as_node": "a", "command": {"goto": {"node": "nope", "input": {}}}},
                "supersteps.1.updates.0.command.goto: the graph has no node 'nope'",
            ),
            (
                "factory",
                {"as_node": "a", "command": {"goto": "nope"}},
                "supersteps.1.updates.0.command.goto: the graph has no node 'nope'",
            ),
            (
                "plain",
                {"as_node": "a", "command": {"resume": "yes"}},
                "supersteps.1.updates.0.command.resume: must be null: nothing waits for an answer",
            ),
            (
                "branch",
                {"as_node": "a", "values": {"seen": 5}},
                "supersteps.1.updates: channel 'seen': TypeError",
            ),
            (
                "nope",
                {"as_node": "a", "values": {}},
                "metadata.graph_id: must be one of the graphs: plain, ",
            ),
        ],
    )
    def test_supersteps_that_cannot_be_done_say_where_and_leave_no_thread(
        self, client, graph_id, update, reason
    ):
        mark = {"test": str(uuid4())}
        updates = ({"as_node": "a", "values": {"text": "x"}}, {"values": None, **update})
        steps = [{"updates": [each]} for each in updates]
        with pytest.raises(UnprocessableEntityError) as raised:
            client.threads.create(graph_id=graph_id, metadata=mark, supersteps=steps)
        assert raised.value.response.json()["detail"].startswith(reason)
        assert client.threads.search(metadata=mark) == []

    def test_an_unknown_subgraph_is_named(self, client):
        thread = ran(client, "plain", {"text": "x"})
        with pytest.raises(UnprocessableEntityError) as raised:
            client.threads.update_state(thread, {}, checkpoint={"checkpoint_ns": "zz:1"})
        assert raised.value.response.json()["detail"] == (
            "checkpoint.checkpoint_ns: the graph has no subgraph 'zz'"
        )

    def test_a_thread_whose_graph_is_not_served_says_so(self, client):
        thread = client.threads.create(graph_id="gone")["thread_id"]
        with pytest.raises(ConflictError) as raised:
            client.threads.get_state(thread)
        assert "graph 'gone' is not served here any more" in raised.value.response.json()["detail"]


class TestRemoteGraph:
    def test_reads_changes_and_lists_states(self, server, client):
        thread = ran(client, "parallel", {"text": "x"})
        graph = RemoteGraph("parallel", url=server.url)
        config = {"configurable": {"thread_id": thread}}
        state = graph.get_state(config)
        assert (state.values, state.next) == ({"text": "x", "seen": ["a"]}, ("left", "right"))
        assert [each.value for each in state.interrupts] == [{"ask": "left"}, {"ask": "right"}]
        changed = graph.update_state(config, {"seen": ["u"]}, as_node="left")
        assert graph.get_state(changed).values["seen"] == ["a", "u"]
        states = list(graph.get_state_history(config, limit=2))
        assert [each.values["seen"] for each in states] == [["a", "u"], ["a"]]
        assert states[0].config == changed
        older = graph.get_state_history(config, before=states[0].config, limit=1)
        assert [each.config for each in older] == [states[1].config]
        loops = graph.get_state_history(config, filter={"source": "loop"})
        assert [each.metadata["step"] for each in loops] == [1, 0]

    def test_reads_and_changes_a_subgraph(self, server, client):
        thread = ran(client, "subgraph", {"text": "x"})
        graph = RemoteGraph("subgraph", url=server.url)
        config = {"configurable": {"thread_id": thread}}
        [task] = graph.get_state(config).tasks
        [whole] = graph.get_state(config, subgraphs=True).tasks
        inner = graph.get_state(task.state)
        assert inner.values == whole.state.values == {"text": "x", "inside": "x!"}
        changed = graph.update_state(task.state, {"inside": "new"}, as_node="inside")
        assert graph.get_state(changed).values == {"text": "x", "inside": "new"}

    def test_does_so_on_an_event_loop(self, server, client):
        thread = ran(client, "plain", {"text": "x"})
        config = {"configurable": {"thread_id": thread}}

        async def use() -> Any:
            graph = RemoteGraph("plain", client=get_client(url=server.url))
            await graph.aupdate_state(config, {"text": "u"}, as_node="a")
            state = await graph.aget_state(config)
            return state, [each async for each in graph.aget_state_history(config, limit=1)]

        state, history = asyncio.run(use())
        assert (state.values["text"], state.next) == ("u", ("b",))
        assert [each.config for each in history] == [state.config]


@pytest.mark.parametrize("graph_id", ["configured", "configured_async"])
class TestAGraphThatIsMadeByItsConfig:
    def test_is_read_updated_and_resumed_with_its_assistants(self, client, graph_id):
        given = {"configurable": {"node": "sales"}}
        assistant = client.assistants.create(graph_id, given)["assistant_id"]
        thread = ran(client, assistant, {"text": "x"})
        assert client.threads.get_state(thread)["next"] == ["sales"]
        assert client.threads.get_history(thread)[0]["next"] == ["sales"]
        copy = client.threads.copy(thread)["thread_id"]
        assert client.threads.get_state(copy)["next"] == ["sales"]
        answer = client.runs.wait(thread, assistant, command={"resume": "yes"})
        assert answer["seen"] == ["sales: yes"]
        client.threads.update_state(copy, {"seen": ["updated"]}, as_node="sales")
        state = client.threads.get_state(copy)
        assert (state["values"]["seen"], state["next"]) == (["updated"], [])

    def test_is_read_with_what_a_run_laid_over_it(self, client, graph_id):
        for given in (
            {"config": {"configurable": {"node": "mine"}}},
            {"context": {"node": "mine"}},
        ):
            thread = ran(client, graph_id, {"text": "x"}, **given)
            assert client.threads.get_state(thread)["next"] == ["mine"]

    def test_is_read_although_its_assistant_is_gone(self, client, graph_id):
        given = {"configurable": {"node": "sales"}}
        assistant = client.assistants.create(graph_id, given)["assistant_id"]
        thread = ran(client, assistant, {"text": "x"})
        client.assistants.delete(assistant)
        assert client.threads.get_state(thread)["next"] == ["sales"]

    def test_is_drawn_without_one(self, client, graph_id):
        nodes = {each["id"] for each in client.assistants.get_graph(graph_id)["nodes"]}
        assert nodes >= {"ask"}
        assert client.assistants.get_schemas(graph_id)["graph_id"] == graph_id
        assert client.assistants.get_subgraphs(graph_id) == {}


def test_metadata_is_laid_over_that_of_the_latest_state_which_stays_as_it_is(zoo):
    thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
    path = f"/threads/{thread_id}/state"
    assert zoo.http.patch(path, json={"metadata": {}}).status_code == 404
    body = {"assistant_id": "two_interrupts", "input": {}}
    zoo.http.post(f"/threads/{thread_id}/runs/wait", json=body)
    before = zoo.http.get(path).json()
    assert before["interrupts"]
    answer = zoo.http.patch(path, json={"metadata": {"mine": 1}})
    after = zoo.http.get(path).json()
    assert answer.json() == after
    assert after.pop("metadata") == {**before.pop("metadata"), "mine": 1}
    assert after == before
    history = zoo.http.get(f"/threads/{thread_id}/history").json()
    assert [each["metadata"].get("mine") for each in history] == [1] + [None] * (len(history) - 1)
    assert zoo.http.patch(path, json={"metadata": 1}).status_code == 422
