"""Webhooks, from a run's end to the receiver, through real servers that also die."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.calls import (
    FOREVER,
    UNLIMITED,
    Gate,
    begun,
    detail,
    document,
    fresh_get,
    lines,
    output,
    post,
    run_id_of,
    run_of,
)
from tests.receiver import Received, Receiver, status
from tests.servers import (
    PATIENCE,
    PROJECTS,
    RedisServer,
    Server,
    ServerFactory,
    eventually,
    free_port,
)

KEY = bytes(range(32))
SETTINGS = {
    "LANGGRAPH_CONFIG": str(PROJECTS / "zoo" / "langgraph.json"),
    "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
    "WEBHOOK_SECRET": "whsec_" + base64.b64encode(KEY).decode(),
    "HEARTBEAT_SECONDS": "0.2",
    "RUN_LEASE_SECONDS": "2",
}
FIELDS = {
    *("run_id", "thread_id", "assistant_id", "metadata", "status", "kwargs", "multitask_strategy"),
    *("created_at", "updated_at", "values", "run_started_at", "run_ended_at", "webhook_sent_at"),
}


@pytest.fixture(scope="module")
def server(shared: ServerFactory) -> Server:
    """Two workers that send webhooks, shared by tests that leave them as they are."""
    return shared(**SETTINGS)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def only_one(receiver: Receiver) -> Received:
    eventually(lambda: receiver.received)
    [received] = receiver.received
    return received


def told(receiver: Receiver) -> Any:
    """What the receiver was told, once; the times of it make sense."""
    received = only_one(receiver)
    signed = f"{received.id}.{received.headers['webhook-timestamp']}.".encode() + received.content
    digest = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert received.headers["webhook-signature"] == f"v1,{digest}"
    body = received.json
    assert received.id == body["run_id"]
    names = ("created_at", "run_started_at", "run_ended_at", "webhook_sent_at")
    times = [datetime.fromisoformat(body[name]) for name in names]
    assert times == sorted(times)
    assert all(each.utcoffset() is not None for each in times)
    assert set(body) - {"error"} == FIELDS
    return body


@pytest.mark.parametrize("graph", ["sleep_sync", "sleep_async"])
@pytest.mark.parametrize("how", ["delete", "prune"])
def test_a_run_whose_thread_is_deleted_ends_once_and_tells_of_it(
    server, receiver, tmp_path, graph, how
):
    file = tmp_path / "file"
    with Gate(tmp_path) as gate:
        asked = {"input": {**gate.input, "file": str(file)}, "webhook": receiver.url}
        with begun(server, graph, **asked) as response:
            eventually(lambda: lines(file))
            run = response.headers["Content-Location"]
            thread = run.split("/")[2]
            if how == "delete":
                gone = httpx.delete(f"{server.url}/threads/{thread}", timeout=PATIENCE)
            else:
                ids = {"thread_ids": [thread]}
                gone = httpx.post(f"{server.url}/threads/prune", json=ids, timeout=PATIENCE)
            assert gone.is_success
            assert "done" not in document(response)
    body = told(receiver)
    assert (body["run_id"], body["status"]) == (run.split("/")[4], "interrupted")
    for path in (f"/threads/{thread}", run, f"{run}/join"):
        assert fresh_get(server, path).status_code == 404
    # No process has it, and none is to take it.
    client = server.valkey.client
    assert client.zcard("{runwait}:leases") == client.zcard("{runwait}:ready") == 0


def test_all_runs_of_a_thread_that_is_deleted_tell_of_their_end(server, receiver, tmp_path):
    file = tmp_path / "file"
    thread = server.http.post("/threads", json={}).json()["thread_id"]

    def ask(graph: str, **fields: Any) -> httpx.Response:
        body = {"assistant_id": graph, "input": {}, "webhook": receiver.url, **fields}
        return httpx.post(f"{server.url}/threads/{thread}/runs/wait", json=body, timeout=PATIENCE)

    with Gate(tmp_path) as gate, ThreadPoolExecutor() as pool:
        held = {**gate.input, "file": str(file)}
        answers = [pool.submit(ask, "sleep_async", input=held)]
        eventually(lambda: lines(file))
        answers += [pool.submit(ask, "echo"), pool.submit(ask, "echo", after_seconds=86_400)]
        runs = f"{server.url}/threads/{thread}/runs"
        eventually(lambda: len(httpx.get(runs, timeout=PATIENCE).json()) == 3)
        assert httpx.delete(f"{server.url}/threads/{thread}", timeout=PATIENCE).is_success
        ended = {run_id_of(each.result()) for each in answers}
    eventually(lambda: len(receiver.received) >= 3)
    assert sorted(each.id for each in receiver.received) == sorted(ended)
    assert {each.json["status"] for each in receiver.received} == {"interrupted"}


def make_due(server: RedisServer) -> None:
    """As if all pauses and leases of webhooks were over; while no process delivers any."""
    tag = "{runwait}:outbox"
    for receiver in server.client.zrange(tag, 0, -1):
        queue = f"{tag}:{receiver.decode()}"
        for run_id in server.client.zrange(queue, 0, -1):
            server.client.zadd(queue, {run_id: 1})
        server.client.zadd(tag, {receiver: 1})


# What a receiver is told


def test_the_run_and_its_values(server, receiver):
    answer = post(
        server,
        "echo",
        input={"value": {"big": 10**30, "e": "é"}},
        metadata={"a": 1},
        webhook=f"{receiver.url}/hook?x=1",
    )
    body = told(receiver)
    assert body["values"] == answer.json() == {"value": {"big": 10**30, "e": "é"}}
    assert "error" not in body
    assert body["status"] == "success"
    assert body["metadata"]["a"] == 1
    run = run_of(server, answer)
    assert {name: body[name] for name in run} == run
    assert receiver.received[0].path == "/hook?x=1"


def test_the_error_of_a_run_that_failed(server, receiver):
    error = output(server, "fails", webhook=receiver.url)["__error__"]
    body = told(receiver)
    assert body["status"] == "error"
    assert body["error"] == error


def test_the_interrupts_of_a_run_that_waits(server, receiver):
    document = output(server, "two_interrupts", webhook=receiver.url)
    body = told(receiver)
    assert body["status"] == "interrupted"
    assert body["values"] == document
    assert len(body["values"]["__interrupt__"]) == 2


def test_of_a_run_on_a_kept_thread(server, receiver):
    thread_id = server.http.post("/threads", json={}).json()["thread_id"]
    answer = httpx.post(
        f"{server.url}/threads/{thread_id}/runs/wait",
        json={"assistant_id": "steps_async", "input": {"n": 2}, "webhook": receiver.url},
        timeout=PATIENCE,
    )
    body = told(receiver)
    assert body["thread_id"] == thread_id
    assert body["values"] == answer.json()


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_of_a_run_that_was_cancelled(server, receiver, action):
    fields = {"input": FOREVER, "config": UNLIMITED, "webhook": receiver.url}
    with begun(server, "steps_async", **fields) as answer:
        path = f"{answer.headers['Content-Location']}/cancel"
        cancelled = server.http.post(path, params={"wait": "true", "action": action})
        assert cancelled.status_code == 202
    assert told(receiver)["status"] == "interrupted"


def test_of_a_run_whose_client_went_away(server, receiver):
    fields = {"input": FOREVER, "config": UNLIMITED, "webhook": receiver.url}
    with begun(server, "steps_async", on_disconnect="cancel", **fields):
        pass
    assert told(receiver)["status"] == "interrupted"


def test_of_a_run_over_its_time(serve: ServerFactory, valkey, receiver):
    server = serve(**SETTINGS, REDIS_URL=valkey.url, RUN_TIMEOUT_SECONDS=0.2)
    output(server, "steps_async", input=FOREVER, config=UNLIMITED, webhook=receiver.url)
    body = told(receiver)
    assert body["status"] == "timeout"
    assert body["error"]["error"] == "TimeoutError"


def test_nothing_of_a_webhook_that_is_refused(server, receiver):
    text = detail(post(server, "echo", webhook=f"http://10.0.0.1:{receiver.port}/"), 422)
    assert text == "webhook: must point to a public address"


# How often


def test_each_run_is_told_of_once_by_whichever_process(server, receiver):
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(
                lambda n: httpx.post(
                    f"{server.url}/runs/wait",
                    json={"assistant_id": "echo", "input": {"value": n}, "webhook": receiver.url},
                    timeout=PATIENCE,
                ),
                range(50),
            )
        )
    ids = [each.headers["Content-Location"].split("/")[-1] for each in answers]
    eventually(lambda: len(receiver.received) >= 50)
    assert Counter(each.id for each in receiver.received) == Counter(ids)
    assert Counter(each.json["values"]["value"] for each in receiver.received) == dict.fromkeys(
        range(50), 1
    )


def test_a_client_does_not_wait_for_the_receiver(server, receiver):
    go_on = threading.Event()

    def hold(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(PATIENCE)
        status(200)(handler)

    receiver.answers.append(hold)
    try:
        assert output(server, "echo", input={"value": 1}, webhook=receiver.url) == {"value": 1}
        only_one(receiver)
    finally:
        go_on.set()


# Whatever happens


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_failed_is_tried_again_after_a_restart(
    serve: ServerFactory, valkey, receiver, how
):
    receiver.by_path["/hook"] = status(500)
    first = serve(**SETTINGS, REDIS_URL=valkey.url)
    answer = post(first, "echo", input={"value": 1}, webhook=f"{receiver.url}/hook")
    eventually(lambda: first.logged("not delivered: the answer was 500"))
    workers = first.workers()
    first.stop(how)
    for pid in workers if how is signal.SIGKILL else []:
        os.kill(pid, signal.SIGKILL)
    receiver.by_path.clear()
    before = len(receiver.received)
    make_due(valkey)
    second = serve(**SETTINGS, REDIS_URL=valkey.url)
    run_id = answer.headers["Content-Location"].split("/")[-1]
    eventually(lambda: second.logged(f"webhook {run_id} delivered"))
    assert len(receiver.received) == before + 1
    assert {each.id for each in receiver.received} == {run_id}


def test_one_under_way_at_a_stop_is_sent_again_at_once_by_the_next(
    serve: ServerFactory, valkey, receiver
):
    go_on = threading.Event()
    receiver.answers.append(lambda handler: go_on.wait(PATIENCE) and None)
    try:
        first = serve(**SETTINGS, REDIS_URL=valkey.url, SHUTDOWN_GRACE_SECONDS=0)
        output(first, "echo", webhook=receiver.url)
        eventually(lambda: receiver.received)
        first.stop()
        serve(**SETTINGS, REDIS_URL=valkey.url)
        eventually(lambda: len(receiver.received) == 2)
    finally:
        go_on.set()


def test_a_run_that_outlives_its_process_is_told_of_once(
    serve: ServerFactory, valkey, receiver, tmp_path: Path
):
    server = serve(**SETTINGS, REDIS_URL=valkey.url)
    with Gate(tmp_path) as gate:
        body = {"input": gate.input, "webhook": receiver.url}
        with begun(server, "sleep_async", **body) as answer:
            owner = valkey.client.hget("{runwait}:run:" + run_id_of(answer), "owner")
            assert owner is not None
            for pid in server.workers():
                os.kill(pid, signal.SIGKILL)
    assert told(receiver)["status"] == "success"
    assert fresh_get(server, f"{answer.headers['Location']}").status_code == 200


def test_a_receiver_that_is_away_costs_nothing_but_its_own(server, receiver):
    away = f"http://127.0.0.1:{free_port()}/"
    for _ in range(5):
        output(server, "echo", webhook=away)
    output(server, "echo", input={"value": 1}, webhook=receiver.url)
    assert told(receiver)["values"] == {"value": 1}


# Settings


@pytest.mark.parametrize("secret", ["whsec_short", base64.b64encode(KEY).decode()])
def test_a_secret_that_is_none_stops_the_start(serve: ServerFactory, secret):
    server = serve(started=False, WEBHOOK_SECRET=secret)
    assert server.process is not None
    assert server.process.wait(PATIENCE) != 0
    assert "WEBHOOK_SECRET: Must be whsec_" in server.log.read_text()
    assert secret not in server.log.read_text()
