"""Runs that start later, across real processes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests import warm
from tests.e2e.calls import (
    FOREVER,
    UNLIMITED,
    Gate,
    begun,
    document,
    due_now,
    fresh_get,
    lines,
    patient_get,
    pause,
    resume,
    run_id_of,
)
from tests.servers import FEW, PATIENCE, PROJECTS, ROOT, Server, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
# Nobody waits so long: for runs that a test starts by other means, or not at all.
NEVER = 86_400


def status(server: Server, path: str) -> str:
    found: str = fresh_get(server, path).json()["status"]
    return found


def seconds_between(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


@contextlib.contextmanager
def on_thread(server: Server, thread_id: str, **body: Any) -> Iterator[httpx.Response]:
    """A run on a thread whose answer's headers are here."""
    url = f"{server.url}/threads/{thread_id}/runs/wait"
    with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
        assert response.status_code == 200
        yield response


def runs_on(server: Server, thread_id: str) -> list[dict[str, Any]]:
    """The runs of a thread, the latest first."""
    found: list[dict[str, Any]] = fresh_get(server, f"/threads/{thread_id}/runs").json()
    return found


@pytest.mark.parametrize("keep", ["delete", "keep"])
def test_a_run_starts_when_it_is_due_and_its_client_gets_the_answer(zoo, keep):
    body = {
        "assistant_id": "echo",
        "input": {"value": 1},
        "after_seconds": 1,
        "on_completion": keep,
    }
    with httpx.stream("POST", f"{zoo.url}/runs/wait", json=body, timeout=PATIENCE) as response:
        path = response.headers["Content-Location"]
        assert status(zoo, path) == "pending"
        text = response.read()
    # Newlines came while it waited.
    assert text.startswith(b"\n")
    assert response.json() == {"value": 1}
    run = fresh_get(zoo, path).json()
    assert run["status"] == "success"
    assert seconds_between(run["created_at"], run["updated_at"]) >= 1


def test_a_scheduled_run_survives_everything_but_redis(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    with begun(server, "echo", input={"value": 1}, after_seconds=NEVER) as response:
        path = response.headers["Content-Location"]
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
    server.stop()
    valkey.stop()
    valkey.start()
    other = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    assert status(other, path) == "pending"
    with ThreadPoolExecutor() as pool:
        joined = pool.submit(fresh_get, other, f"{path}/join")
        due_now(valkey)
        assert joined.result().json() == {"value": 1}


def test_a_scheduled_run_is_executed_once_whoever_is_free(serve, valkey, tmp_path):
    servers = [serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO) for _ in range(2)]
    files = [tmp_path / str(n) for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = [
            pool.submit(
                httpx.post,
                f"{servers[n % 2].url}/runs/wait",
                json={
                    "assistant_id": ("steps_sync", "steps_async")[n // 2 % 2],
                    "input": {"n": 1, "file": str(file)},
                    "after_seconds": NEVER,
                },
                timeout=PATIENCE,
            )
            for n, file in enumerate(files)
        ]
        eventually(lambda: valkey.client.zcard("{runwait}:ready") == 20)
        due_now(valkey)
        for answer in answers:
            assert answer.result().json()["steps"] == [1]
    assert all(lines(file) == ["1"] for file in files)


def test_a_scheduled_run_may_be_cancelled_before_it_starts(zoo, tmp_path):
    file = tmp_path / "file"
    with begun(
        zoo, "steps_sync", input={"n": 1, "file": str(file)}, after_seconds=NEVER
    ) as response:
        path = response.headers["Content-Location"]
        assert httpx.post(f"{zoo.url}{path}/cancel?wait=1", timeout=PATIENCE).status_code == 202
        response.read()
        assert response.json() == {}
    assert status(zoo, path) == "interrupted"
    assert lines(file) == []


@pytest.mark.parametrize("on_thread_too", [False, True], ids=["own thread", "kept"])
def test_a_scheduled_run_that_is_rolled_back_is_gone(zoo, on_thread_too):
    fields = {"on_completion": "keep"} if on_thread_too else {}
    with begun(zoo, "echo", after_seconds=NEVER, **fields) as response:
        path = response.headers["Content-Location"]
        cancel = f"{zoo.url}{path}/cancel?action=rollback&wait=true"
        assert httpx.post(cancel, timeout=PATIENCE).status_code == 202
        assert document(response) == {}
    for _ in range(4):
        assert fresh_get(zoo, f"{path}/join").status_code == 404
        assert fresh_get(zoo, path).status_code == 404


@pytest.mark.parametrize("claims", ["true", "false"])
def test_what_has_not_started_is_cancelled_at_once_although_there_is_no_place(
    serve, valkey, gate, tmp_path, claims
):
    server = serve(
        REDIS_URL=valkey.url,
        LANGGRAPH_CONFIG=ZOO,
        WEB_CONCURRENCY=1,
        RUN_CONCURRENCY=1,
        CLAIM_RUNS=claims,
    )
    file = tmp_path / "file"
    with contextlib.ExitStack() as stack:
        given = {**gate.input, "file": str(file)}
        held = stack.enter_context(begun(server, "sleep_async", input=given))
        # Now the place is taken; whoever looks for runs may have had it for a moment before.
        eventually(lambda: lines(file))
        queued = stack.enter_context(begun(server, "echo", input={"value": 1}))
        scheduled = stack.enter_context(begun(server, "echo", after_seconds=NEVER))
        for each in (queued, scheduled):
            path = each.headers["Content-Location"]
            assert (
                httpx.post(f"{server.url}{path}/cancel?wait=true", timeout=PATIENCE).status_code
                == 202
            )
            assert document(each) == {}
            assert status(server, path) == "interrupted"
        gate.open()
        assert document(held)["done"] is True


def test_a_client_that_goes_away_while_redis_does_removes_its_scheduled_run(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    with begun(server, "echo", after_seconds=NEVER, on_disconnect="cancel") as response:
        path = response.headers["Content-Location"]
        valkey.stop()
    eventually(lambda: server.logged("is cancelled later"))
    valkey.start()
    eventually(lambda: patient_get(server, path).json()["status"] == "interrupted")


def test_a_client_that_goes_away_removes_its_scheduled_run_if_it_says_so(zoo):
    with begun(zoo, "echo", after_seconds=NEVER, on_disconnect="cancel") as response:
        path = response.headers["Content-Location"]
    eventually(lambda: status(zoo, path) == "interrupted")


def test_a_client_that_goes_away_leaves_its_scheduled_run_otherwise(zoo):
    with begun(zoo, "echo", input={"value": 2}, after_seconds=1) as response:
        path = response.headers["Content-Location"]
    assert fresh_get(zoo, f"{path}/join").json() == {"value": 2}


def test_a_scheduled_run_takes_its_turn_on_its_thread(zoo, tmp_path):
    thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
    steps = {"assistant_id": "steps_sync", "input": {"n": 2}, "after_seconds": NEVER}
    with on_thread(zoo, thread_id, **steps) as later, Gate(tmp_path) as gate:
        # The thread is not the scheduled run's before that is due.
        with on_thread(zoo, thread_id, assistant_id="sleep_sync", input=gate.input) as first:
            assert [each["status"] for each in runs_on(zoo, thread_id)] == ["running", "pending"]
            due_now(zoo.valkey, run_id_of(later))
            ready = functools.partial(zoo.valkey.client.zscore, "{runwait}:ready", run_id_of(later))
            eventually(lambda: ready() is None)
            assert [each["status"] for each in runs_on(zoo, thread_id)] == ["running", "pending"]
            gate.open()
            assert document(first)["done"] is True
        assert document(later)["steps"] == [1, 2]
    assert {each["status"] for each in runs_on(zoo, thread_id)} == {"success"}


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_thread_is_busy_until_its_scheduled_run_has_been_or_is_cancelled(zoo, action):
    thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
    path = f"/threads/{thread_id}"
    body = {"assistant_id": "echo", "input": {"value": 1}}
    assert zoo.http.post(f"{path}/runs/wait", json=body).json() == {"value": 1}
    reject = {**body, "input": {"value": 2}, "multitask_strategy": "reject"}
    update = {"values": {"value": 3}}
    with on_thread(zoo, thread_id, **body, after_seconds=NEVER) as later:
        assert fresh_get(zoo, path).json()["status"] == "busy"
        assert zoo.http.post(f"{path}/runs/wait", json=reject).status_code == 409
        assert zoo.http.post(f"{path}/state", json=update).status_code == 409
        cancel = f"{path}/runs/{run_id_of(later)}/cancel?wait=true&action={action}"
        assert zoo.http.post(cancel).status_code == 202
    assert fresh_get(zoo, path).json()["status"] == "idle"
    assert zoo.http.post(f"{path}/state", json=update).status_code == 200
    assert zoo.http.post(f"{path}/runs/wait", json=reject).json() == {"value": 2}


def test_an_interrupting_run_interrupts_when_it_is_due(zoo, tmp_path):
    thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
    file = tmp_path / "file"
    given = {"assistant_id": "steps_async", "config": UNLIMITED}
    endless = {**given, "input": {**FOREVER, "file": str(file)}}
    later = {**given, "input": {"n": 1}, "multitask_strategy": "interrupt", "after_seconds": NEVER}
    with (
        on_thread(zoo, thread_id, **later) as second,
        on_thread(zoo, thread_id, **endless) as first,
    ):
        # The second step begins once the process knows what the first made.
        eventually(lambda: len(lines(file)) > 1)
        due_now(zoo.valkey, run_id_of(second))
        assert document(second)["steps"]
        assert document(first)["steps"]


@pytest.mark.parametrize("seconds", [1e13, 1e308])
def test_a_time_that_never_comes_holds_up_nobody(zoo, seconds):
    with begun(zoo, "echo", after_seconds=seconds, on_disconnect="cancel") as response:
        path = response.headers["Content-Location"]
        body = {"assistant_id": "echo", "input": {"value": 1}, "after_seconds": 0.2}
        for _ in range(4):
            answer = httpx.post(f"{zoo.url}/runs/wait", json=body, timeout=PATIENCE)
            assert answer.json() == {"value": 1}
    eventually(lambda: status(zoo, path) == "interrupted")


def test_a_thread_lives_until_the_runs_on_it_have_been(zoo):
    thread_id = zoo.http.post("/threads", json={"ttl": 0.001}).json()["thread_id"]
    body = {"assistant_id": "echo", "input": {"value": 1}, "after_seconds": 1}
    url = f"{zoo.url}/threads/{thread_id}/runs/wait"
    with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
        zoo.valkey.client.zadd("{runwait}:threads:expiry", {thread_id: 1}, xx=True)
        response.read()
    assert response.json() == {"value": 1}


def test_scheduled_runs_of_a_thread_are_cancelled_with_the_others(zoo):
    thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
    url = f"{zoo.url}/threads/{thread_id}/runs/wait"
    body = {"assistant_id": "echo", "input": {}, "after_seconds": NEVER}
    with httpx.stream("POST", url, json=body, timeout=PATIENCE) as response:
        cancel = {"thread_id": thread_id, "status": "pending"}
        assert zoo.http.post("/runs/cancel", json=cancel).status_code == 204
        response.read()
    assert response.json() == {}


def test_without_redis_nothing_can_be_scheduled(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    valkey.stop()
    body = {"assistant_id": "echo", "input": {}, "after_seconds": 5}
    response = server.http.post("/runs/wait", json=body)
    assert (response.status_code, "Retry-After" in response.headers) == (503, True)


@pytest.fixture
def worker(valkey, tmp_path):
    """A process that only works, for that Redis."""
    log = tmp_path / "worker.log"
    settings = {"REDIS_URL": valkey.url, "LANGGRAPH_CONFIG": ZOO, "SHUTDOWN_GRACE_SECONDS": "1"}
    with log.open("wb") as output:
        process = warm.start(
            ["work"], cwd=ROOT, env={**os.environ, **FEW, **settings}, output=output
        )
    eventually(lambda: "worker works" in log.read_text())
    yield process
    process.kill()
    process.wait(PATIENCE)


def test_web_and_work_may_be_apart(serve, valkey, worker, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, CLAIM_RUNS="false")
    pause(worker.pid)
    body = {"assistant_id": "echo", "input": {"value": 3}, "after_seconds": 0.1}
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.http.post, "/runs/wait", json=body)
        eventually(lambda: valkey.client.zcard("{runwait}:ready") == 1)
        assert fresh_get(server, "/ok").status_code == 200
        resume(worker.pid)
        assert answer.result().json() == {"value": 3}


def test_a_worker_that_is_told_to_stop_hands_back_what_it_cannot_end(
    serve, valkey, worker, tmp_path
):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, CLAIM_RUNS="false")
    file = tmp_path / "file"
    body = {
        "assistant_id": "sleep_sync",
        "input": {"seconds": 600, "file": str(file)},
        "after_seconds": 0.1,
    }
    with httpx.stream("POST", f"{server.url}/runs/wait", json=body, timeout=PATIENCE) as response:
        path = response.headers["Content-Location"]
        eventually(lambda: lines(file))
        worker.terminate()
        assert worker.wait(PATIENCE) == 0
        assert status(server, path) == "pending"


@pytest.fixture
def old_and_new(serve, valkey, tmp_path) -> tuple[Server, Server]:
    """As when a new version is rolled out: a process that lacks a graph takes the runs, and one
    that has it accepts them."""
    project = tmp_path / "langgraph.json"
    graph = PROJECTS / "zoo" / "zoo" / "basic.py"
    project.write_text(json.dumps({"dependencies": [], "graphs": {"other": f"{graph}:two_nodes"}}))
    common = {"REDIS_URL": valkey.url, "WEB_CONCURRENCY": 1}
    new = serve(**common, LANGGRAPH_CONFIG=ZOO, CLAIM_RUNS="false")
    return serve(**common, LANGGRAPH_CONFIG=project), new


@pytest.mark.parametrize("keep", ["delete", "keep"])
def test_a_run_waits_for_a_process_that_has_its_graph(serve, valkey, old_and_new, keep):
    old, new = old_and_new
    with begun(new, "echo", input={"value": 1}, after_seconds=0.1, on_completion=keep) as response:
        path = response.headers["Content-Location"]
        eventually(lambda: old.logged("is left to a process that has the graph 'echo'"))
        serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)

        def is_done() -> bool:
            # Whoever is first takes it, and the one that lacks its graph leaves it for longer
            # and longer.
            due_now(valkey)
            return status(new, path) == "success"

        eventually(is_done)
        assert document(response) == {"value": 1}


def test_a_run_does_not_wait_for_ever_for_a_graph_that_is_gone(valkey, old_and_new):
    _, new = old_and_new
    with begun(new, "echo", input={"value": 1}, after_seconds=0.1) as response:
        run = response.headers["Content-Location"].rpartition("/")[2]
        eventually(lambda: valkey.client.hexists(f"{{runwait}}:run:{run}", "postponed_since"))
        valkey.client.hset(f"{{runwait}}:run:{run}", "postponed_since", 1)
        response.read()
    message = "there is no graph 'echo' any more"
    assert response.json() == {"__error__": {"error": "ValueError", "message": message}}
