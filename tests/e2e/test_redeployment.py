"""Threads that a later version of their graph finds, in real processes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.calls import Gate, detail
from tests.e2e.test_kept import get, keep, new_thread, wait_on
from tests.servers import RedisServer, Server, eventually

GRAPHS = """
import operator, os, time
from typing import Annotated, Any, NamedTuple, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class Asked(TypedDict, total=False):
    text: str
    gate: str


def ask(state: Asked) -> Asked:
    while state.get("gate") and not os.path.exists(state["gate"]):
        time.sleep(0.01)
    return {"text": interrupt("who?")}


asks = StateGraph(Asked).add_node("NODE", ask).add_edge(START, "NODE").compile()


def made():
    return asks


class Items(TypedDict, total=False):
    items: KIND


class Log(TypedDict, total=False):
    log: Annotated[list[str], GROWTH]


grows = (
    StateGraph(Log).add_node("say", lambda _: {"log": ["n"]}).add_edge(START, "say").compile()
)
counts = StateGraph(Items).add_node("count", lambda state: {}).add_edge(START, "count").compile()


class NOTE(NamedTuple):
    text: str


class Noted(TypedDict, total=False):
    text: str
    note: Any


def note(state: Noted) -> Noted:
    return {"note": NOTE(state["text"])}


notes = StateGraph(Noted).add_node("note", note).add_edge(START, "note").compile()
"""
CONFIG = '{"dependencies": ["."], "graphs": {%s}}' % ", ".join(  # noqa: UP031
    f'"{name}": "./graphs.py:{name}"' for name in ("asks", "made", "counts", "grows", "notes")
)
GONE = (
    "channel 'branch:to:ask': the thread is to go on with node 'ask', "
    "which the graph does not have any more"
)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """A server of the graphs, and one of their next version, on the same Redis."""
    folder = tmp_path_factory.mktemp("redeployment")
    (folder / "valkey").mkdir()
    valkey = RedisServer(folder / "valkey")
    valkey.start()
    servers = []
    changes = "DeltaChannel(lambda before, writes: sum(writes, before or []))"
    before = {"NODE": "ask", "KIND": "list[int]", "GROWTH": changes, "NOTE": "Note"}
    after = {
        "NODE": "question",
        "KIND": "Annotated[int, operator.add]",
        "GROWTH": "operator.add",
        "NOTE": "Remark",
    }
    for name, names in (("before", before), ("after", after)):
        project = folder / name
        project.mkdir()
        text = GRAPHS
        for mark, value in names.items():
            text = text.replace(mark, value)
        (project / "graphs.py").write_text(text)
        (project / "langgraph.json").write_text(CONFIG)
        servers.append(_server(project, valkey))
    yield servers[0], servers[1]
    for server in servers:
        server.kill()
    valkey.stop()


def _server(project: Path, valkey: RedisServer) -> Server:
    server = Server(
        project,
        {
            "REDIS_URL": valkey.url,
            "LANGGRAPH_CONFIG": str(project / "langgraph.json"),
            "WEB_CONCURRENCY": "1",
            # Runs that wait for their turn are the next version's.
            "CLAIM_RUNS": str(project.name == "after").lower(),
        },
    )
    server.start()
    return server


@pytest.fixture
def before(versions: tuple[Server, Server]) -> Server:
    return versions[0]


@pytest.fixture
def after(versions: tuple[Server, Server]) -> Server:
    return versions[1]


ON = [{"command": {"resume": "me"}}, {"input": None}]


def stands(server: Server, thread_id: str) -> Any:
    """A thread, and its states as they are stored."""
    thread = get(server, f"/threads/{thread_id}")
    for name in ("updated_at", "state_updated_at"):
        del thread[name]
    return thread, get(server, f"/threads/{thread_id}/history?limit=100")


@pytest.mark.parametrize("fields", ON)
def test_an_answer_to_a_node_that_is_gone_is_refused_and_can_be_given_later(before, after, fields):
    thread_id, document = keep(before, "asks", input={"text": "x"})
    assert [each["value"] for each in document["__interrupt__"]] == ["who?"]
    known = stands(before, thread_id)
    assert known[0]["status"] == "interrupted"
    assert detail(wait_on(after, thread_id, "asks", **fields), 409) == GONE
    assert stands(before, thread_id) == known
    found = get(after, f"/threads/{thread_id}")
    assert (found["status"], found["interrupts"]) == ("interrupted", known[0]["interrupts"])
    assert wait_on(before, thread_id, "asks", command={"resume": "me"}).json() == {"text": "me"}


@pytest.mark.parametrize("fields", ON)
def test_a_graph_that_is_made_for_the_run_refuses_it_then(before, after, fields):
    thread_id, _ = keep(before, "made", input={"text": "x"})
    known = stands(before, thread_id)
    answer = wait_on(after, thread_id, "made", **fields)
    assert answer.json() == {"__error__": {"error": "StateIncompatible", "message": GONE}}
    assert stands(before, thread_id) == known
    assert get(after, f"/threads/{thread_id}/runs")[0]["status"] == "error"
    assert wait_on(before, thread_id, "made", command={"resume": "me"}).json() == {"text": "me"}


def test_what_a_run_comes_before_is_refused_in_its_turn(before, after, tmp_path):
    thread_id = new_thread(before)
    with Gate(tmp_path) as gate, ThreadPoolExecutor() as pool:
        given = {"text": "x", "gate": str(gate.path)}
        first = pool.submit(wait_on, before, thread_id, "asks", input=given)
        eventually(lambda: len(get(before, f"/threads/{thread_id}/runs")) == 1)
        second = pool.submit(wait_on, after, thread_id, "asks", input=None)
        eventually(lambda: len(get(before, f"/threads/{thread_id}/runs")) == 2)
        gate.open()
    assert "__interrupt__" in first.result().json()
    assert second.result().json() == {"__error__": {"error": "StateIncompatible", "message": GONE}}
    thread = get(before, f"/threads/{thread_id}")
    assert (thread["status"], thread["error"]) == ("interrupted", None)
    answer = wait_on(before, thread_id, "asks", command={"resume": "me"})
    assert answer.json()["text"] == "me"


def test_a_new_input_starts_the_new_graph(before, after):
    thread_id, _ = keep(before, "asks", input={"text": "x"})
    answer = wait_on(after, thread_id, "asks", input={"text": "y"}).json()
    assert (answer["text"], len(answer["__interrupt__"])) == ("y", 1)
    answer = wait_on(after, thread_id, "asks", command={"resume": "me"})
    assert answer.json() == {"text": "me"}


def test_a_value_that_the_new_graph_cannot_go_on_with_is_named(before, after):
    thread_id, _ = keep(before, "counts", input={"items": [1]})
    error = wait_on(after, thread_id, "counts", input={"items": 2}).json()["__error__"]
    assert error["error"] == "TypeError"
    assert error["message"].startswith("channel 'items': can only concatenate list")
    thread = get(after, f"/threads/{thread_id}")
    assert (thread["status"], thread["error"]) == ("error", error)


def test_a_channel_that_was_stored_as_changes_goes_on_as_another_kind(before, after):
    thread, document = keep(before, "grows", input={"log": ["a"]})
    assert document == {"log": ["a", "n"]}
    said = ["a", "n", "b", "n"]
    assert wait_on(after, thread, "grows", input={"log": ["b"]}).json() == {"log": said}
    assert not after.logged("goes on elsewhere")


def test_what_a_new_thread_cannot_take_is_said_as_the_graph_says_it(after):
    _, document = keep(after, "counts", input={"items": [1]})
    assert document["__error__"]["message"].startswith("unsupported operand type(s)")


def test_a_value_whose_class_is_gone_is_named_and_gone_round(before, after):
    thread_id, _ = keep(before, "notes", input={"text": "x"})
    known = get(before, f"/threads/{thread_id}/history")
    assert known[0]["values"] == {"text": "x", "note": {"text": "x"}}

    state = get(after, f"/threads/{thread_id}/state")
    history = get(after, f"/threads/{thread_id}/history")

    assert (state["values"], state["next"]) == ({"text": "x"}, [])
    [problem] = state["unreadable"]
    assert problem["channel"] == "note"
    assert "a stored graphs.Note cannot be revived" in problem["reason"]
    assert [each["checkpoint"] for each in history] == [each["checkpoint"] for each in known]
    assert [each["values"].get("text") for each in history] == ["x", "x", None]
    # What the node wrote on the second cannot be read either.
    assert state["go_on_from"] == known[2]["checkpoint"]
    error = wait_on(after, thread_id, "notes", input={"text": "y"}).json()["__error__"]
    assert (error["error"], "graphs.Note" in error["message"]) == ("UnrevivableValue", True)
    assert get(after, f"/threads/{thread_id}/history") == history

    answer = wait_on(after, thread_id, "notes", input={"text": "y"}, checkpoint=state["go_on_from"])

    assert answer.json() == {"text": "y", "note": {"text": "y"}}
    state = get(after, f"/threads/{thread_id}/state")
    assert (state["values"], "unreadable" in state) == (answer.json(), False)
