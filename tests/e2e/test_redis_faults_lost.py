"""A Redis that lost what it had acknowledged, as in a failover: what executes is not lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.calls import Gate, fresh_get, in_the_third_step, lines
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")

Post = Callable[..., Future[httpx.Response]]


@pytest.fixture
def server(serve: Callable[..., Server], valkey: RedisServer) -> Server:
    return serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=2)


@pytest.fixture
def post() -> Iterator[Post]:
    """Asks for a run beside the test."""
    with ThreadPoolExecutor(16) as pool:
        yield lambda server, path="/runs/wait", **body: pool.submit(
            httpx.post, server.url + path, json=body, timeout=PATIENCE
        )


def get(server: Server, path: str) -> Any:
    response = fresh_get(server, path)
    assert response.status_code == 200, response.text
    return response.json()


def steps(gate: Gate, file: Path, graph: str) -> dict[str, Any]:
    return {"assistant_id": graph, "input": {**gate.input, "n": 6, "file": str(file)}}


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_run_on_a_new_thread_ends_right_although_everything_was_lost(
    server, valkey, post, tmp_path, gate, graph, durability
):
    file = tmp_path / "file"
    answer = post(server, **steps(gate, file, graph), on_completion="keep", durability=durability)
    eventually(lambda: len(lines(file)) == 2)
    valkey.client.flushall()
    gate.open()
    document = answer.result().json()
    assert document["steps"] == [1, 2, 3, 4, 5, 6]
    location = answer.result().headers["Location"]
    assert get(server, location) == document
    thread = get(server, "/threads/" + location.split("/")[2])
    assert (thread["status"], thread["values"]) == ("idle", document)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_run_on_a_thread_whose_state_is_lost_says_so_and_answers_nothing_wrong(
    server, valkey, post, tmp_path, gate, durability
):
    first = post(server, assistant_id="steps_sync", input={"n": 1}, on_completion="keep")
    thread = first.result().headers["Location"].split("/")[2]
    file = tmp_path / "file"
    path = f"/threads/{thread}/runs/wait"
    answer = post(server, path, **steps(gate, file, "steps_sync"), durability=durability)
    eventually(lambda: lines(file) == ["2"])
    valkey.client.flushall()
    gate.open()
    error = answer.result().json()["__error__"]
    assert (error["error"], "state" in error["message"]) == ("RunLost", True)
    assert get(server, answer.result().headers["Location"]) == answer.result().json()
    assert get(server, f"/threads/{thread}")["status"] == "error"


@pytest.mark.parametrize("keep", ["delete", "keep"])
def test_a_run_whose_record_alone_is_lost_goes_on_where_it_is(server, valkey, tmp_path, keep):
    with Gate(tmp_path) as gate, ExitStack() as stack:

        def opened(method: str, path: str, **body: Any) -> httpx.Response:
            response = stack.enter_context(
                httpx.stream(method, server.url + path, timeout=PATIENCE, **body)
            )
            assert response.status_code == 200
            return response

        body = {"assistant_id": "sleep_sync", "input": gate.input, "on_completion": keep}
        response = opened("POST", "/runs/wait", json=body)
        location = response.headers["Location"]
        eventually(lambda: valkey.client.zcard("{runwait}:leases"))
        # Most likely in both processes.
        joins = [opened("GET", location) for _ in range(8)]
        _, _, thread, _, run, _ = location.split("/")
        ours = [f"{{runwait}}:{kind}:{run}" for kind in ("run", "result", "waiting")]
        valkey.client.delete(*ours, f"{{runwait}}:thread:{thread}", "{runwait}:leases")
        valkey.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: valkey.client.hexists(ours[0], "record"))
        assert get(server, response.headers["Content-Location"])["status"] == "running"
        gate.open()
        for each in (response, *joins):
            each.read()
            assert each.json()["done"] is True
        assert get(server, location) == response.json()


@pytest.mark.parametrize("graph", ["steps_sync", "steps_async"])
def test_a_run_goes_on_from_what_is_left_of_its_thread(server, valkey, post, tmp_path, gate, graph):
    file = tmp_path / "file"
    thread = server.http.post("/threads", json={}).json()["thread_id"]
    with Gate(tmp_path) as second_gate:
        body = steps(gate, file, graph)
        body["input"] |= {"second_gate": str(second_gate.path), "mark": 3}
        answer = post(server, f"/threads/{thread}/runs/wait", **body, durability="sync")
        in_the_third_step(server, thread)
        older = {key: valkey.client.dump(key) for key in valkey.client.keys("*")}
        gate.open()
        eventually(lambda: lines(file) == ["1", "2", "3", "4"])
        with valkey.client.pipeline(transaction=True) as back:
            back.flushall()
            for key, value in older.items():
                if value is not None:
                    back.restore(key, 0, value)
            back.execute()
    document = answer.result().json()
    assert document["steps"] == [1, 2, 3, 4, 5, 6]
    # What the third step wrote was lost with it; so it was done again.
    assert document["marked"] is True
    assert len(lines(file)) >= 8
    assert lines(file)[-4:] == ["3", "4", "5", "6"]
    assert get(server, answer.result().headers["Location"]) == document
    state = get(server, f"/threads/{thread}/state")
    assert (state["values"], state["next"]) == (document, [])
    # No state on the way lacks what Redis had lost.
    for each in get(server, f"/threads/{thread}/history?limit=50"):
        if each["values"].get("steps"):
            assert each["values"]["file"] == str(file)


LOSING = """
import os
from pathlib import Path
from typing import TypedDict

import redis
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    file: str


def lose(state, config):
    with Path(state["file"]).open("a") as notes:
        notes.write("started\\n")
    key = "runwait:{%s}:fence" % config["configurable"]["thread_id"]
    redis.Redis.from_url(os.environ["REDIS_URL"]).delete(key)
    return {}


graph = StateGraph(State).add_node(lose).add_edge(START, "lose").compile()
"""


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_run_whose_state_is_lost_each_time_is_given_up(serve, valkey, tmp_path, durability):
    (tmp_path / "losing.py").write_text(LOSING)
    config = tmp_path / "langgraph.json"
    config.write_text('{"dependencies": ["."], "graphs": {"losing": "./losing.py:graph"}}')
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=str(config), RUN_MAX_ATTEMPTS=2)
    thread = server.http.post("/threads", json={}).json()["thread_id"]
    file = tmp_path / "file"
    body = {"assistant_id": "losing", "input": {"file": str(file)}, "durability": durability}
    error = server.http.post(f"/threads/{thread}/runs/wait", json=body).json()["__error__"]
    assert (error["error"], "2 attempts" in error["message"]) == ("RunLost", True)
    assert lines(file) == ["started"] * 2
    assert get(server, f"/threads/{thread}")["status"] == "error"


def test_a_run_on_a_state_that_redis_dropped_a_part_of_does_not_begin_anew(server, valkey, post):
    kept = {"assistant_id": "steps_sync", "input": {"n": 1}}
    thread = server.http.post("/threads", json={}).json()["thread_id"]
    path = f"/threads/{thread}/runs/wait"
    assert post(server, path, **kept).result().json()["steps"] == [1]
    assert valkey.client.delete(f"runwait:{{{thread}}}:values") == 1
    assert post(server, path, **kept).result().json()["__error__"]["error"] == "RunLost"
    state = fresh_get(server, f"/threads/{thread}/state")
    assert (state.status_code, thread in state.json()["detail"]) == (409, True)


def test_a_run_that_waits_for_its_time_and_is_lost_is_said_to_be_lost(server, valkey, post):
    answer = post(server, assistant_id="echo", input={}, after_seconds=3600)
    eventually(lambda: valkey.client.zcard("{runwait}:ready"))
    valkey.client.flushall()
    valkey.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert answer.result().json()["__error__"]["error"] == "RunLost"


@pytest.mark.parametrize("kept", [False, True])
def test_who_waits_for_a_run_that_redis_dropped_is_told(serve, valkey, kept):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=1)
    body = {"assistant_id": "echo", "input": {"value": 1}, "after_seconds": 86_400}
    body["on_completion"] = "keep" if kept else "delete"
    url = f"{server.url}/runs/wait"
    with httpx.stream("POST", url, json=body, timeout=PATIENCE) as answer:
        run_id = answer.headers["content-location"].rsplit("/", 1)[1]
        assert valkey.client.delete(f"{{runwait}}:run:{run_id}") == 1
        error = json.loads(answer.read())["__error__"]
        assert error["error"] == "RunLost"
