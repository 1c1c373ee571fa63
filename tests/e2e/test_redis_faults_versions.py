"""Records that another version of Runwait wrote: read, or refused with a word on why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.e2e.calls import due_now, fresh_get
from tests.servers import PATIENCE, PROJECTS, RedisServer, Server, ServerFactory, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")
NEVER = 86_400

Record = dict[str, Any]


@pytest.fixture(scope="module")
def server(shared: ServerFactory) -> Server:
    """Two workers, each with a place for one run."""
    return shared(LANGGRAPH_CONFIG=ZOO, RUN_LEASE_SECONDS=1, RUN_CONCURRENCY=1)


@pytest.fixture
def valkey(server: Server) -> RedisServer:
    return server.valkey


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def without(*names: str) -> Callable[[Record], str]:
    return lambda record: json.dumps({k: v for k, v in record.items() if k not in names})


def with_(**fields: Any) -> Callable[[Record], str]:
    return lambda record: json.dumps({**record, **fields})


def waiting(
    server: Server, valkey: RedisServer, pool: ThreadPoolExecutor, change: Any, keep: str
) -> tuple[Any, str, str]:
    """A run that waits for its time, with its record changed: its answer to come, ids."""
    body = {
        "assistant_id": "echo",
        "input": {"value": 1},
        "after_seconds": NEVER,
        "on_completion": keep,
    }
    answer = pool.submit(httpx.post, f"{server.url}/runs/wait", json=body, timeout=PATIENCE)
    [run] = eventually(lambda: valkey.client.zrange("{runwait}:ready", 0, -1))
    key = "{runwait}:run:" + run.decode()
    record = json.loads(valkey.client.hget(key, "record"))
    valkey.client.hset(key, "record", change(record))
    return answer, record["thread_id"], record["run_id"]


def asking(**kwargs: Any) -> Callable[[dict[str, Any]], str]:
    return lambda record: json.dumps({**record, "kwargs": {**record["kwargs"], **kwargs}})


@pytest.mark.parametrize("keep", ["delete", "keep"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("surroundings"), "lacks surroundings"),
        (without("kwargs", "metadata"), "lacks metadata, kwargs"),
        (with_(surroundings={}), "lacks surroundings.metadata"),
        (with_(kwargs={"input": {"value": 2}}), "lacks kwargs."),
        (asking(stream_mode=3), "iterable"),
        (with_(layout=2), "layout is 2"),
        (lambda record: "{", "not a JSON object"),
    ],
    ids=[
        "older",
        "much_older",
        "lacks_what_runs_need",
        "lacks_what_was_asked",
        "odd",
        "newer",
        "broken",
    ],
)
def test_a_run_that_cannot_be_read_ends_and_says_so(server, valkey, pool, change, says, keep):
    answer, thread, run = waiting(server, valkey, pool, change, keep)
    path = f"/threads/{thread}/runs/{run}"
    seen = fresh_get(server, path)
    if seen.status_code != 200:
        assert seen.status_code == 500
        assert says in seen.json()["detail"]
    due_now(valkey)
    error = answer.result().json()["__error__"]
    assert error["error"] == "UnreadableRun"
    assert says in error["message"]
    assert fresh_get(server, f"{path}/join").json() == answer.result().json()
    assert fresh_get(server, path).json()["status"] == "error"
    assert valkey.client.zcard("{runwait}:ready") == valkey.client.zcard("{runwait}:leases") == 0
    # It took no place for good, nor its thread.
    for _ in range(4):
        after = {"assistant_id": "echo", "input": {"value": 3}}
        where = f"/threads/{thread}/runs/wait" if keep == "keep" else "/runs/wait"
        response = httpx.post(server.url + where, json=after, timeout=PATIENCE)
        assert response.json() == {"value": 3}


def test_names_that_this_version_does_not_know_are_left_alone(server, valkey, pool):
    change = with_(priority=5, surprise={"a": [1]})
    answer, thread, run = waiting(server, valkey, pool, change, "keep")
    assert fresh_get(server, f"/threads/{thread}/runs/{run}").json()["status"] == "pending"
    due_now(valkey)
    assert answer.result().json() == {"value": 1}


def test_a_status_that_this_version_does_not_know_is_not_guessed(server, valkey, pool):
    answer, thread, run = waiting(server, valkey, pool, with_(), "delete")
    valkey.client.hset("{runwait}:run:" + run, "status", "paused")
    refused = fresh_get(server, f"/threads/{thread}/runs/{run}")
    assert (refused.status_code, "'paused'" in refused.json()["detail"]) == (500, True)
    due_now(valkey)
    assert answer.result().json() == {"value": 1}
