"""The views of threads: what they take, what they ask for, and what they answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runwait.api import errors, request, threads
from runwait.storage.connection import StorageUnavailable
from runwait.storage.threads import ThreadBusy, ThreadExists, ThreadNotFound, ThreadQuery
from runwait.threads.threads import FIELDS

THREAD = str(UUID(int=1))
PATH = f"/threads/{THREAD}"


class Asked:
    """Takes the place of the threads."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answer: Any = {"values": {"n": 10**20, "s": {1}}}

    def __getattr__(self, name: str) -> Any:
        def take(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return take


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def http(asked: Asked) -> FlaskClient:
    app = Flask("threads")
    app.extensions["runwait"] = SimpleNamespace(
        access=None,
        service=SimpleNamespace(threads=asked),
        settings=SimpleNamespace(max_request_bytes=10_000),
    )
    app.register_blueprint(threads.blueprint)
    errors.register(app)
    request.register(app)
    return app.test_client()


def detail(answer: Any, status: int) -> str:
    assert (answer.status_code, list(answer.json)) == (status, ["detail"])
    text: str = answer.json["detail"]
    return text


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ThreadNotFound(THREAD), 404, f"thread {THREAD} not found"),
        (ThreadExists(THREAD), 409, f"thread {THREAD} exists already"),
        (ThreadBusy(THREAD), 409, f"thread {THREAD} is busy"),
        (StorageUnavailable("Redis is away"), 503, "Redis is away"),
    ],
)
def test_what_cannot_be_done_is_answered_for_what_it_is(http, asked, error, status, text):
    asked.answer = error
    answer = http.get(PATH)
    assert detail(answer, status) == text
    assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", ""), ("patch", ""), ("delete", ""), ("post", "/copy")],
)
def test_a_bad_id_is_refused(http, asked, method, path):
    answer = getattr(http, method)(f"/threads/nope{path}", json={})
    assert detail(answer, 422) == "thread_id: must be a UUID"
    assert asked.calls == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("post", ""), ("patch", f"/{THREAD}"), ("post", "/search"), ("post", "/count")],
)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"a":1,"a":1}'])
def test_a_body_that_is_no_json_object_is_refused(http, asked, method, path, body):
    detail(getattr(http, method)(f"/threads{path}", data=body), 422)
    assert asked.calls == []


class TestCreate:
    def test_takes_nothing(self, http, asked):
        answer = http.post("/threads", json={"unknown": 1})
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        assert answer.get_data() == b'{"values":{"n":100000000000000000000,"s":[1]}}'
        assert asked.calls == [("create", (), {"is_there": ANY})]

    def test_takes_all_that_the_sdk_sends(self, http, asked):
        command = {"update": None, "resume": None, "goto": "n"}
        update = {"values": {"a": 1}, "command": command, "as_node": "n"}
        http.post(
            "/threads",
            json={
                "thread_id": THREAD.upper(),
                "metadata": {"graph_id": "g"},
                "if_exists": "do_nothing",
                "ttl": {"ttl": 1.5, "strategy": "delete"},
                "supersteps": [{"updates": [update]}],
            },
        )
        ((_, _, given),) = asked.calls
        assert given == {
            "thread_id": THREAD,
            "metadata": {"graph_id": "g"},
            "if_exists": "do_nothing",
            "ttl": 90_000,
            "supersteps": [{"updates": [update]}],
            "is_there": ANY,
        }

    @pytest.mark.parametrize(
        ("ttl", "ms"), [(5, 300_000), ({"ttl": 5}, 300_000), (0.5, 30_000), (1e-9, 1)]
    )
    def test_takes_minutes(self, http, asked, ttl, ms):
        assert http.post("/threads", json={"ttl": ttl}).status_code == 200
        assert asked.calls == [("create", (), {"ttl": ms, "is_there": ANY})]

    @pytest.mark.parametrize(
        "ttl",
        [0, -1, "5", True, None, [], {}, {"ttl": 0}, {"ttl": None}, {"ttl": True}, 1e300]
        + [{"ttl": 5, "strategy": each} for each in ("keep_latest", None, 1)],
        ids=str,
    )
    def test_refuses_what_is_no_life(self, http, asked, ttl):
        assert detail(http.post("/threads", json={"ttl": ttl}), 422).startswith("ttl: must be a ")
        assert asked.calls == []

    def test_names_every_problem(self, http, asked):
        answer = http.post(
            "/threads",
            json={
                "thread_id": "x",
                "metadata": None,
                "if_exists": "replace",
                "supersteps": [
                    {"updates": []},
                    {},
                    {"updates": [{"as_node": 1, "command": 5}, {}]},
                    5,
                    {"updates": [{"as_node": "n", "command": {"resume": False}}]},
                ],
            },
        )
        assert sorted(detail(answer, 422).split("; ")) == [
            "if_exists: must be one of: raise, do_nothing",
            "metadata: must be an object",
            "supersteps.0.updates: must be a list of updates, at least 1",
            "supersteps.1.updates: is required",
            "supersteps.2.updates.0.as_node: must be a string",
            "supersteps.2.updates.0.command: must be an object or null",
            "supersteps.2.updates.1.as_node: is required",
            "supersteps.3: must be an object",
            "supersteps.4.updates.0.command.resume: must be null: nothing waits for an answer",
            "thread_id: must be a UUID",
        ]
        assert asked.calls == []


class TestGet:
    @pytest.mark.parametrize(
        ("query", "ttl"), [("", False), ("?include=ttl", True), ("?include=a,ttl", True)]
    )
    def test_says_how_long_it_lives_if_asked(self, http, asked, query, ttl):
        assert http.get(f"/threads/{THREAD.upper()}{query}").status_code == 200
        assert asked.calls == [("get", (THREAD,), {"ttl": ttl})]


class TestPatch:
    def test_is_answered_with_the_thread(self, http, asked):
        answer = http.patch(PATH, json={"metadata": {"a": None}, "ttl": 1})
        assert answer.status_code == 200
        expected = {"metadata": {"a": None}, "ttl": 60_000, "minimal": False}
        assert asked.calls == [("patch", (THREAD,), expected)]

    @pytest.mark.parametrize(
        "prefer", ["return=minimal", "Return = Minimal", "wait=5, return=minimal; x=1"]
    )
    def test_is_answered_with_nothing_if_that_is_preferred(self, http, asked, prefer):
        asked.answer = None
        answer = http.patch(PATH, json={}, headers={"Prefer": prefer})
        assert (answer.status_code, answer.data) == (204, b"")
        assert asked.calls == [("patch", (THREAD,), {"minimal": True})]

    def test_is_answered_with_the_thread_whatever_else_is_preferred(self, http, asked):
        http.patch(PATH, json={}, headers={"Prefer": "return=representation"})
        assert asked.calls == [("patch", (THREAD,), {"minimal": False})]

    def test_names_every_problem(self, http, asked):
        text = detail(http.patch(PATH, json={"metadata": 5, "ttl": 0}), 422)
        assert "metadata: must be an object" in text
        assert "ttl: must be a number of minutes" in text


def test_delete_answers_nothing(http, asked):
    answer = http.delete(PATH)
    assert (answer.status_code, answer.data) == (204, b"")
    assert asked.calls == [("delete", (THREAD,), {})]


def test_copy_needs_no_body(http, asked):
    assert http.post(f"{PATH}/copy").status_code == 200
    assert asked.calls == [("copy", (THREAD, {}), {})]


class TestSearch:
    def test_says_nothing_by_default(self, http, asked):
        asked.answer = ([], 0, False)
        answer = http.post("/threads/search", json={})
        assert (answer.status_code, answer.json) == (200, [])
        assert answer.headers["X-Pagination-Total"] == "0"
        assert "X-Pagination-Next" not in answer.headers
        assert asked.calls == [("search", (ThreadQuery(),), {})]

    def test_says_where_the_next_page_begins(self, http, asked):
        asked.answer = ([{"thread_id": THREAD}], 9, True)
        answer = http.post("/threads/search", json={"limit": 2, "offset": 4})
        assert answer.headers["X-Pagination-Total"] == "9"
        assert answer.headers["X-Pagination-Next"] == "6"

    def test_takes_all_that_the_sdk_sends(self, http, asked):
        asked.answer = ([], 0, False)
        http.post(
            "/threads/search",
            json={
                "metadata": {"a": {"b": 1}},
                "values": {"c": 1},
                "ids": [THREAD.upper()],
                "status": "interrupted",
                "limit": 1000.0,
                "offset": 7,
                "sort_by": "state_updated_at",
                "sort_order": "asc",
                "select": ["values", "thread_id", "values"],
                "extract": {"last": "values.messages[-1]"},
            },
        )
        query = ThreadQuery(
            metadata={"a": {"b": 1}},
            ids=[THREAD],
            status="interrupted",
            limit=1000,
            offset=7,
            sort_by="state_updated_at",
            sort_order="asc",
        )
        expected = {
            "values": {"c": 1},
            "select": ["thread_id", "values"],
            "extract": {"last": "values.messages[-1]"},
        }
        assert asked.calls == [("search", (query,), expected)]

    def test_names_every_problem(self, http, asked):
        body = {
            "metadata": None,
            "values": 5,
            "ids": ["x"],
            "status": "done",
            "limit": 1001,
            "offset": -1,
            "sort_by": "metadata",
            "sort_order": "ASC",
            "select": ["nope"],
        }
        assert detail(http.post("/threads/search", json=body), 422).split("; ") == [
            "ids: must be a list of UUIDs",
            "metadata: must be an object",
            "values: must be an object",
            "status: must be one of: idle, busy, interrupted, error",
            "limit: must be an integer from 1 to 1000",
            "offset: must be an integer from 0 to 2147483647",
            "sort_by: must be one of: thread_id, status, created_at, updated_at, state_updated_at",
            "sort_order: must be one of: asc, desc",
            f"select: must be a list of: {', '.join(FIELDS)}",
        ]
        assert asked.calls == []

    @pytest.mark.parametrize(
        "extract",
        [
            None,
            [],
            {"a": 5},
            {"a": ""},
            {"a-b": "values"},
            {"": "values"},
            {"a": "status"},
            {"a": "valuesx"},
            {"a": "values."},
            {"a": "values..a"},
            {"a": "values[a]"},
            {"a": "values[]"},
            {"a": "values[9999999999]"},
            {"a": "values\n"},
            {str(n): "values" for n in range(11)},
        ],
    )
    def test_refuses_paths_that_lead_nowhere(self, http, extract):
        answer = http.post("/threads/search", json={"extract": extract})
        assert detail(answer, 422).startswith("extract: must be an object of up to 10 paths")

    @pytest.mark.parametrize("limit", [0, True, "1", 1.5, None, [1], 10**400])
    def test_refuses_what_is_no_limit(self, http, limit):
        assert detail(http.post("/threads/search", json={"limit": limit}), 422).startswith("limit:")


class TestCount:
    def test_is_a_number(self, http, asked):
        asked.answer = 3
        body = {"metadata": {"a": 1}, "values": {"b": 1}, "status": "idle", "limit": "ignored"}
        answer = http.post("/threads/count", json=body)
        assert (answer.status_code, answer.data) == (200, b"3")
        query = ThreadQuery(metadata={"a": 1}, status="idle")
        assert asked.calls == [("count", (query,), {"values": {"b": 1}})]


class TestPrune:
    def test_says_how_many_it_was_done_to(self, http, asked):
        asked.answer = 2
        body = {"thread_ids": [THREAD.upper()], "strategy": "keep_latest"}
        answer = http.post("/threads/prune", json=body)
        assert (answer.status_code, answer.json) == (200, {"pruned_count": 2})
        expected = {"thread_ids": [THREAD], "strategy": "keep_latest"}
        assert asked.calls == [("prune", (), expected)]

    def test_names_every_problem(self, http, asked):
        text = detail(http.post("/threads/prune", json={"strategy": "most"}), 422)
        assert text == "thread_ids: is required; strategy: must be one of: delete, keep_latest"
        text = detail(http.post("/threads/prune", json={"thread_ids": ["x"]}), 422)
        assert text == "thread_ids: must be a list of UUIDs"


@pytest.mark.parametrize(
    ("method", "path"), [("get", "/threads"), ("put", PATH), ("get", f"{PATH}/copy")]
)
def test_other_methods_are_refused(http, method, path):
    detail(getattr(http, method)(path), 405)
