"""Runs that nobody waits for, over HTTP, through two workers."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
import pytest

from tests.e2e.calls import bad_fields, detail, fresh_get, only
from tests.servers import PATIENCE, PROJECTS, Server, eventually

ZOO = str(PROJECTS / "zoo" / "langgraph.json")


def create(server: Server, path: str, body: Any, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=PATIENCE)


def joined(server: Server, run: dict[str, Any]) -> Any:
    return fresh_get(server, f"/threads/{run['thread_id']}/runs/{run['run_id']}/join").json()


def new_thread(server: Server) -> str:
    thread_id: str = create(server, "/threads", {}).json()["thread_id"]
    return thread_id


class TestOne:
    def test_is_answered_at_once_with_the_run_and_joined_after_its_end(self, zoo, gate):
        answer = create(zoo, "/runs", {"assistant_id": "sleep_sync", "input": gate.input})
        run = answer.json()
        assert (answer.status_code, run["status"]) == (200, "pending")
        path = f"/threads/{run['thread_id']}/runs/{run['run_id']}"
        assert answer.headers["Content-Location"] == path
        gate.open()
        assert joined(zoo, run)["done"] is True
        assert fresh_get(zoo, path).json()["status"] == "success"
        # Its thread is gone, its answer is still there.
        assert fresh_get(zoo, f"/threads/{run['thread_id']}").status_code == 404
        assert joined(zoo, run)["done"] is True

    def test_on_a_thread_takes_its_turn(self, zoo, gate):
        thread_id = new_thread(zoo)
        path = f"/threads/{thread_id}/runs"
        first = create(zoo, path, {"assistant_id": "sleep_sync", "input": gate.input}).json()
        second = create(zoo, path, {"assistant_id": "sleep_sync", "input": gate.input}).json()
        pending = fresh_get(zoo, f"{path}?status=pending").json()
        assert [each["run_id"] for each in pending] == [second["run_id"]]
        refused = {"assistant_id": "sleep_sync", "multitask_strategy": "reject"}
        detail(create(zoo, path, refused), 409)
        gate.open()
        assert [joined(zoo, each)["done"] for each in (first, second)] == [True, True]

    def test_cancelled_while_it_waits_leaves_no_thread(self, zoo):
        body = {"assistant_id": "echo", "input": {"value": 1}, "after_seconds": 86_400}
        run = create(zoo, "/runs", body).json()
        path = f"/threads/{run['thread_id']}"
        assert fresh_get(zoo, path).status_code == 200
        assert create(zoo, f"{path}/runs/{run['run_id']}/cancel", {}).status_code == 202
        eventually(lambda: fresh_get(zoo, path).status_code == 404)

    def test_is_executed_although_the_process_that_took_it_in_dies(self, serve, valkey, gate):
        server = serve(
            REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=2, RUN_LEASE_SECONDS=1
        )
        first = server.workers()[0]
        with only(server, first):
            body = {"assistant_id": "sleep_async", "input": gate.input}
            runs = [create(server, "/runs", body).json() for _ in range(3)]
            os.kill(first, signal.SIGKILL)
        gate.open()
        assert [joined(server, each)["done"] for each in runs] == [True] * 3

    def test_more_than_there_are_places_for_wait_for_theirs(self, serve, valkey, gate):
        server = serve(
            REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1, RUN_CONCURRENCY=2
        )
        body = {"assistant_id": "sleep_async", "input": gate.input}
        runs = [create(server, "/runs", body).json() for _ in range(5)]
        gate.open()
        assert [joined(server, each)["done"] for each in runs] == [True] * 5

    @pytest.mark.parametrize("path", ["/runs", "/runs/batch"])
    def test_repeated_with_its_key_is_the_same_run_also_while_it_works(self, zoo, gate, path):
        body: Any = {"assistant_id": "sleep_sync", "input": gate.input}
        body = [body] if path.endswith("batch") else body
        key = os.urandom(8).hex()
        first, second = (create(zoo, path, body, key) for _ in range(2))
        assert second.content == first.content
        assert second.headers["Idempotency-Replayed"] == "true"
        detail(create(zoo, path, [] if path == "/runs/batch" else {}, key), 422)
        gate.open()
        # The same key means another run with another path.
        waited = create(zoo, "/runs/wait", {"assistant_id": "echo", "input": {"value": 1}}, key)
        assert waited.json() == {"value": 1}

    def test_without_redis_is_refused(self, serve, valkey):
        server = serve(REDIS_URL=valkey.url, LANGGRAPH_CONFIG=ZOO, WEB_CONCURRENCY=1)
        valkey.stop()
        body = {"assistant_id": "echo", "input": {"value": 1}}
        for path, given in (("/runs", body), ("/runs/batch", [body])):
            detail(create(server, path, given), 503)


class TestBatch:
    def test_has_the_runs_in_order_each_on_a_thread_of_its_own(self, zoo):
        bodies = [{"assistant_id": "echo", "input": {"value": each}} for each in range(20)]
        runs = create(zoo, "/runs/batch", bodies).json()
        assert len({each["thread_id"] for each in runs}) == 20
        assert [joined(zoo, each) for each in runs] == [{"value": each} for each in range(20)]

    @pytest.mark.parametrize("body", [{}, [], "x", None])
    def test_is_a_list_of_one_run_or_more(self, zoo, body):
        detail(create(zoo, "/runs/batch", body), 422)

    def test_with_one_bad_run_starts_none_and_says_which(self, zoo, tmp_path):
        file = tmp_path / "notes"
        good = {"assistant_id": "sleep_sync", "input": {"seconds": 0, "file": str(file)}}
        answer = create(zoo, "/runs/batch", [good, {**good, "stream_mode": "x"}, 3])
        assert bad_fields(answer) == ["1.stream_mode", "2"]
        answer = create(zoo, "/runs/batch", [good, {"assistant_id": "nope"}])
        assert detail(answer, 422).startswith("1: assistant_id: ")
        both = {**good, "context": {"a": 1}, "config": {"configurable": {"a": 1}}}
        assert detail(create(zoo, "/runs/batch", [good, both]), 400).startswith("1: ")
        # A run that comes after them would have been started after them.
        assert joined(zoo, create(zoo, "/runs/batch", [good]).json()[0])["done"] is True
        assert file.read_text().split() == ["started", "ended"]

    def test_of_more_than_redis_takes_in_at_once_is_taken_in_whole(self, zoo):
        body = {"assistant_id": "echo", "input": {"value": 1}, "after_seconds": 86_400}
        runs = create(zoo, "/runs/batch", [body] * 1001).json()
        assert len({each["run_id"] for each in runs}) == 1001
        for each in (runs[0], runs[-1]):
            path = f"/threads/{each['thread_id']}/runs/{each['run_id']}"
            assert fresh_get(zoo, path).json()["status"] == "pending"
        cancelled = create(zoo, "/runs/cancel", {"status": "pending"})
        assert cancelled.status_code == 204
