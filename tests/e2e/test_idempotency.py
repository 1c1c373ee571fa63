"""Requests that are repeated with their Idempotency-Key, across real processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.calls import FOREVER, UNLIMITED, due_now, fresh_get, lines, patiently
from tests.servers import PATIENCE, PROJECTS, Server, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")


def send(server: Server, key: str, path: str = "/runs/wait", **body: Any) -> httpx.Response:
    """POST on a connection of its own, so that any worker may take it."""
    return httpx.post(
        server.url + path, json=body, headers={"Idempotency-Key": key}, timeout=PATIENCE
    )


def steps(file: Path, **fields: Any) -> dict[str, Any]:
    return {"assistant_id": "steps_sync", "input": {"n": 1, "file": str(file)}, **fields}


@pytest.mark.parametrize("form", ["{}", '"{}"'], ids=["bare", "quoted"])
@pytest.mark.parametrize("keep", ["delete", "keep"])
def test_a_repeated_request_gets_the_same_answer_and_runs_nothing(zoo, tmp_path, form, keep):
    file = tmp_path / "file"
    key = uuid4().hex
    first = send(zoo, key, **steps(file, on_completion=keep))
    assert "Idempotency-Replayed" not in first.headers
    for _ in range(6):
        again = send(zoo, form.format(key), **steps(file, on_completion=keep))
        assert again.status_code == 200
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.content.strip() == first.content.strip()
        assert again.headers["Location"] == first.headers["Location"]
    assert lines(file) == ["1"]


def test_a_failed_run_is_replayed_too(zoo):
    key = uuid4().hex
    first = send(zoo, key, assistant_id="fails", input={})
    assert "__error__" in first.json()
    again = send(zoo, key, assistant_id="fails", input={})
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]


def test_while_the_run_is_in_flight_a_repeated_request_is_a_409_that_names_it(zoo, tmp_path):
    file = tmp_path / "file"
    key = uuid4().hex
    body = {
        "assistant_id": "steps_sync",
        "input": {**FOREVER, "file": str(file)},
        "config": UNLIMITED,
    }
    with ThreadPoolExecutor() as pool:
        first = pool.submit(send, zoo, key, **body)
        eventually(lambda: lines(file))
        for _ in range(4):
            again = send(zoo, key, **body)
            assert again.status_code == 409
            join = again.headers["Location"]
        httpx.post(zoo.url + join.replace("/join", "/cancel"), timeout=PATIENCE)
        document = first.result()
        assert document.headers["Location"] == join
        assert send(zoo, key, **body).json() == document.json()


def test_of_many_at_once_one_runs(zoo, tmp_path):
    file = tmp_path / "file"
    key = uuid4().hex
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(send, zoo, key, **steps(file)) for _ in range(16)]
        statuses = [each.result().status_code for each in answers]
    assert set(statuses) <= {200, 409}
    assert lines(file) == ["1"]


def test_the_same_key_with_another_body_is_a_422(zoo, tmp_path):
    key = uuid4().hex
    send(zoo, key, assistant_id="echo", input={"value": 1})
    other = send(zoo, key, assistant_id="echo", input={"value": 2})
    assert (other.status_code, "Idempotency-Key" in other.json()["detail"]) == (422, True)


def test_a_key_belongs_to_its_path(zoo, tmp_path):
    key = uuid4().hex
    body = {"assistant_id": "steps_sync", "input": {"n": 1}}
    paths = ["/runs/wait"]
    for _ in range(2):
        thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
        paths.append(f"/threads/{thread_id}/runs/wait")
    answers = [send(zoo, key, path, **body) for path in paths]
    assert len({each.headers["Location"] for each in answers}) == 3
    again = [send(zoo, key, path, **body) for path in paths]
    assert [each.headers["Location"] for each in again] == [
        each.headers["Location"] for each in answers
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"assistant_id": "nope"}, 422),
        ({"assistant_id": str(uuid4())}, 404),
        ({"assistant_id": "echo", "context": {"a": 1}, "config": {"configurable": {"b": 1}}}, 400),
    ],
)
def test_a_refused_request_leaves_its_key_free(zoo, body, status):
    key = uuid4().hex
    assert send(zoo, key, **body).status_code == status
    assert send(zoo, key, assistant_id="echo", input={"value": 1}).json() == {"value": 1}


def test_a_request_that_a_thread_has_no_use_for_leaves_its_key_free(zoo, gate):
    thread_id = zoo.http.post("/threads", json={}).json()["thread_id"]
    path = f"/threads/{thread_id}/runs/wait"
    busy, resume = uuid4().hex, uuid4().hex
    resuming = {"assistant_id": "echo", "command": {"resume": 1}}
    assert send(zoo, resume, path, **resuming).status_code == 409
    with ThreadPoolExecutor() as pool:
        held = {"assistant_id": "sleep_async", "input": gate.input}
        first = pool.submit(send, zoo, uuid4().hex, path, **held)
        eventually(lambda: fresh_get(zoo, f"/threads/{thread_id}").json()["status"] == "busy")
        rejected = {"assistant_id": "echo", "multitask_strategy": "reject"}
        assert send(zoo, busy, path, **rejected).status_code == 409
        gate.open()
        assert first.result().status_code == 200
    for key in (busy, resume):
        answer = send(zoo, key, path, assistant_id="echo", input={"value": key})
        assert answer.json() == {"value": key}
        assert "Idempotency-Replayed" not in answer.headers


def test_a_request_for_which_there_is_no_room_leaves_its_key_free(serve, valkey, gate):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, WAITERS_MAX=1)
    with ThreadPoolExecutor() as pool:
        held = {"assistant_id": "sleep_async", "input": gate.input}
        first = pool.submit(send, server, "another", **held)
        eventually(lambda: valkey.client.keys("{runwait}:run:*"))
        assert send(server, "a-key", assistant_id="echo", input={}).status_code == 503
        gate.open()
        assert first.result().status_code == 200
    answer = patiently(lambda: send(server, "a-key", assistant_id="echo", input={"value": 1}))
    assert answer.json() == {"value": 1}
    assert "Idempotency-Replayed" not in answer.headers


def test_a_repeated_resume_is_answered_as_the_first_although_nothing_waits_any_more(zoo):
    body = {"assistant_id": "two_interrupts", "input": {}, "on_completion": "keep"}
    first = httpx.post(f"{zoo.url}/runs/wait", json=body, timeout=PATIENCE)
    path = f"/threads/{first.headers['Location'].split('/')[2]}/runs/wait"
    resume = {each["id"]: "yes" for each in first.json()["__interrupt__"]}
    key = uuid4().hex
    body = {"assistant_id": "two_interrupts", "command": {"resume": resume}}
    answered = send(zoo, key, path, **body)
    assert len(answered.json()["answers"]) == 2
    again = send(zoo, key, path, **body)
    assert (again.status_code, again.json()) == (200, answered.json())


def test_the_answer_outlives_the_result_and_a_restart(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RESULT_TTL_SECONDS=0)
    first = send(server, "a-key", assistant_id="echo", input={"value": 1})
    eventually(lambda: fresh_get(server, first.headers["Location"]).status_code == 404)
    server.stop()
    valkey.stop()
    valkey.start()
    other = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, RESULT_TTL_SECONDS=0)
    again = send(other, "a-key", assistant_id="echo", input={"value": 1})
    assert (again.json(), again.headers["Location"]) == ({"value": 1}, first.headers["Location"])
    [kept] = valkey.client.keys("{runwait}:idempotency:*")
    assert 86_000_000 < valkey.client.pttl(kept) <= 86_400_000


def test_a_key_is_in_flight_for_longer_than_its_time_if_its_run_is(serve, valkey, tmp_path):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, IDEMPOTENCY_TTL_SECONDS=1)
    later = {"assistant_id": "echo", "input": {"value": 1}, "after_seconds": 86_400}
    with ThreadPoolExecutor() as pool:
        first = pool.submit(send, server, "a-key", **later)
        [kept] = eventually(lambda: valkey.client.keys("{runwait}:idempotency:*"))
        assert valkey.client.pttl(kept) == -1
        assert send(server, "a-key", **later).status_code == 409
        assert send(server, "a-key", assistant_id="echo").status_code == 422
        due_now(valkey)
        assert first.result().json() == {"value": 1}
        assert 0 < valkey.client.pttl(kept) <= 1000


def test_without_redis_a_key_is_a_503_and_stays_free(serve, valkey):
    server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO)
    valkey.stop()
    refused = send(server, "a-key", assistant_id="echo", input={"value": 1})
    assert refused.status_code == 503
    valkey.start()
    eventually(lambda: server.log.read_text().count("Redis is back") == 2)
    answer = send(server, "a-key", assistant_id="echo", input={"value": 1})
    assert answer.json() == {"value": 1}
    assert "Idempotency-Replayed" not in answer.headers
