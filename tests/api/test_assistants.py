"""The views of assistants: what they take, what they ask for, and what they answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runwait.api import assistants, errors
from runwait.assistants.assistants import (
    AssistantExists,
    AssistantRequest,
    GraphNotFound,
    GraphNotMade,
    SystemAssistant,
    TwoContexts,
)
from runwait.graphs.assistants import Assistant, AssistantNotFound, UnknownGraph
from runwait.storage.assistants import AssistantQuery, VersionNotFound
from runwait.storage.connection import StorageUnavailable

ID = str(uuid4())
ONE = f"/assistants/{ID}"
MADE = Assistant(
    ID,
    "echo",
    config={"configurable": {"a": 10**20}},
    context={"a": 10**20},
    metadata={"m": 1},
    name="N",
    description="D",
    version=3,
    created_at="2026-01-01T00:00:00.000001+00:00",
    updated_at="2026-01-01T00:00:00.000002+00:00",
)
SHOWN = {
    "assistant_id": ID,
    "graph_id": "echo",
    "config": {"configurable": {"a": 10**20}},
    "context": {"a": 10**20},
    "metadata": {"m": 1},
    "name": "N",
    "description": "D",
    "version": 3,
    "created_at": "2026-01-01T00:00:00.000001+00:00",
    "updated_at": "2026-01-01T00:00:00.000002+00:00",
}


class Asked:
    """Takes the place of the assistants."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answer: Any = MADE

    def __getattr__(self, name: str) -> Any:
        def method(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return method


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def http(asked: Asked) -> FlaskClient:
    app = Flask("assistants")
    app.extensions["runwait"] = SimpleNamespace(
        access=None,
        service=SimpleNamespace(assistants=asked),
        settings=SimpleNamespace(max_request_bytes=10_000),
    )
    app.register_blueprint(assistants.blueprint)
    errors.register(app)
    return app.test_client()


class TestOne:
    def test_is_shown_whole(self, http: FlaskClient, asked: Asked) -> None:
        answer = http.get(ONE)
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        assert answer.get_json() == SHOWN
        assert asked.calls == [("get", (ID,), {})]

    def test_may_be_named_by_its_graph(self, http: FlaskClient, asked: Asked) -> None:
        http.get("/assistants/my%20graph")
        assert asked.calls == [("get", ("my graph",), {})]

    def test_is_made(self, http: FlaskClient, asked: Asked) -> None:
        body = {
            "graph_id": "echo",
            "assistant_id": ID,
            "if_exists": "do_nothing",
            "config": {"tags": ["t"], "recursion_limit": 5.0, "other": 1},
            "context": {"a": 1},
            "metadata": {"m": 1},
            "name": "N",
            "description": "D",
            "unknown": 1,
        }
        answer = http.post("/assistants", json=body)
        assert (answer.status_code, answer.get_json()) == (200, SHOWN)
        request = AssistantRequest(
            graph_id="echo",
            config={"tags": ["t"], "recursion_limit": 5},
            context={"a": 1},
            metadata={"m": 1},
            name="N",
            description="D",
        )
        which = {"assistant_id": ID, "if_exists": "do_nothing"}
        assert asked.calls == [("create", (request,), {**which, "is_there": ANY})]

    def test_is_made_of_a_graph_alone(self, http: FlaskClient, asked: Asked) -> None:
        http.post("/assistants", json={"graph_id": "echo"})
        assert asked.calls == [("create", (AssistantRequest(graph_id="echo"),), {"is_there": ANY})]

    def test_is_changed(self, http: FlaskClient, asked: Asked) -> None:
        assert http.patch(ONE, json={"context": {}}).get_json() == SHOWN
        assert http.patch(ONE, json={}).status_code == 200
        assert asked.calls == [
            ("patch", (ID, AssistantRequest(context={})), {}),
            ("patch", (ID, AssistantRequest()), {}),
        ]

    def test_is_deleted(self, http: FlaskClient, asked: Asked) -> None:
        for query in ("", "?delete_threads=true", "?delete_threads=0"):
            answer = http.delete(ONE + query)
            assert (answer.status_code, answer.data) == (204, b"")
        assert [options for _, _, options in asked.calls] == [
            {"delete_threads": False, "filters": None},
            {"delete_threads": True, "filters": None},
            {"delete_threads": False, "filters": None},
        ]

    def test_names_all_that_is_wrong_with_it(self, http: FlaskClient, asked: Asked) -> None:
        body = {
            "graph_id": 5,
            "assistant_id": "x",
            "if_exists": "maybe",
            "config": {"recursion_limit": 0, "tags": "t"},
            "context": None,
            "metadata": [],
            "name": None,
            "description": 1,
        }
        answer = http.post("/assistants", json=body)
        assert answer.status_code == 422
        problems = answer.get_json()["detail"].split("; ")
        assert sorted(problems) == [
            "assistant_id: must be a UUID",
            "config.recursion_limit: must be an integer of at least 1",
            "config.tags: must be a list of strings",
            "context: must be an object",
            "description: must be a string",
            "graph_id: must be a string",
            "if_exists: must be one of: raise, do_nothing",
            "metadata: must be an object",
            "name: must be a string without NUL",
        ]
        assert http.post("/assistants", json={}).get_json()["detail"] == "graph_id: is required"
        assert http.patch(ONE, json=[]).status_code == 422
        assert asked.calls == []


class TestVersions:
    def test_are_listed_without_the_time_of_a_change(self, http: FlaskClient, asked: Asked) -> None:
        asked.answer = [MADE]
        shown = {name: value for name, value in SHOWN.items() if name != "updated_at"}
        assert http.post(f"{ONE}/versions", json={}).get_json() == [shown]
        http.post(f"{ONE}/versions", json={"limit": 2, "offset": 3, "metadata": {"a": 1}})
        assert asked.calls == [
            ("versions", (ID,), {"metadata": {}, "limit": 10, "offset": 0}),
            ("versions", (ID,), {"metadata": {"a": 1}, "limit": 2, "offset": 3}),
        ]

    def test_one_becomes_the_latest(self, http: FlaskClient, asked: Asked) -> None:
        assert http.post(f"{ONE}/latest", json={"version": 2.0}).get_json() == SHOWN
        assert asked.calls == [("set_latest", (ID,), {"version": 2})]

    def test_a_name_that_could_not_be_sorted_is_refused(
        self, http: FlaskClient, asked: Asked
    ) -> None:
        answer = http.patch(ONE, json={"name": "a\0b"})
        assert (answer.status_code, asked.calls) == (422, [])
        assert answer.get_json()["detail"] == "name: must be a string without NUL"

    @pytest.mark.parametrize("body", [{}, {"version": "1"}, {"version": True}, {"version": -1}])
    def test_a_version_is_a_number(self, http: FlaskClient, asked: Asked, body: Any) -> None:
        answer = http.post(f"{ONE}/latest", json=body)
        assert answer.status_code == 422
        assert answer.get_json()["detail"].startswith("version: ")
        assert asked.calls == []


class TestSearch:
    def test_says_what_it_looks_for(self, http: FlaskClient, asked: Asked) -> None:
        asked.answer = ([MADE], 1, False)
        given: dict[str, Any] = {"graph_id": "g", "name": "n", "metadata": {"a": 1}}
        given |= {"sort_by": "name", "sort_order": "asc"}
        assert http.post("/assistants/search", json={}).get_json() == [SHOWN]
        http.post("/assistants/search", json={**given, "limit": 2, "offset": 4, "select": []})
        assert asked.calls == [
            ("search", (AssistantQuery(), 10, 0), {}),
            ("search", (AssistantQuery(**given), 2, 4), {}),
        ]

    def test_tells_how_many_there_are_and_where_to_go_on(
        self, http: FlaskClient, asked: Asked
    ) -> None:
        asked.answer = ([MADE], 7, True)
        headers = http.post("/assistants/search", json={"limit": 1, "offset": 2}).headers
        assert (headers["X-Pagination-Total"], headers["X-Pagination-Next"]) == ("7", "3")
        asked.answer = ([], 7, False)
        headers = http.post("/assistants/search", json={}).headers
        assert headers["X-Pagination-Total"] == "7"
        assert "X-Pagination-Next" not in headers

    def test_shows_only_what_is_selected(self, http: FlaskClient, asked: Asked) -> None:
        asked.answer = ([MADE], 1, False)
        answer = http.post("/assistants/search", json={"select": ["name", "version", "name"]})
        assert answer.get_json() == [{"name": "N", "version": 3}]

    def test_names_all_that_is_wrong_with_it(self, http: FlaskClient, asked: Asked) -> None:
        body = {
            "limit": 1001,
            "offset": -1,
            "sort_by": "version",
            "sort_order": "up",
            "select": ["name", "status"],
            "name": None,
        }
        answer = http.post("/assistants/search", json=body)
        assert answer.status_code == 422
        problems = answer.get_json()["detail"].split("; ")
        assert sorted(problem.partition(":")[0] for problem in problems) == sorted(body)
        assert "limit: must be an integer from 1 to 1000" in problems
        assert asked.calls == []

    def test_counts(self, http: FlaskClient, asked: Asked) -> None:
        asked.answer = 5
        answer = http.post("/assistants/count", json={"name": "n"})
        assert (answer.status_code, answer.get_json()) == (200, 5)
        assert asked.calls == [("count", (AssistantQuery(name="n"),), {})]


class TestGraph:
    @pytest.mark.parametrize(
        ("query", "xray"),
        [
            ("", False),
            ("?xray=false", False),
            ("?xray=true", True),
            ("?xray=1", 1),
            ("?xray=12", 12),
        ],
    )
    def test_is_drawn_as_deep_as_asked_for(
        self, http: FlaskClient, asked: Asked, query: str, xray: Any
    ) -> None:
        asked.answer = {"nodes": [], "edges": []}
        assert http.get(f"{ONE}/graph{query}").get_json() == asked.answer
        [(name, args, _)] = asked.calls
        assert (name, args, type(args[1])) == ("graph", (ID, xray), type(xray))

    @pytest.mark.parametrize("xray", ["0", "-1", "x", "", "1.5", "1000"])
    def test_is_drawn_to_a_depth_that_there_is(
        self, http: FlaskClient, asked: Asked, xray: str
    ) -> None:
        answer = http.get(f"{ONE}/graph", query_string={"xray": xray})
        assert answer.status_code == 422
        assert answer.get_json()["detail"].startswith("xray: must be true, false")
        assert asked.calls == []

    def test_has_schemas_and_subgraphs(self, http: FlaskClient, asked: Asked) -> None:
        asked.answer = {"a|b": {}}
        for path in ("schemas", "subgraphs", "subgraphs?recurse=true", "subgraphs/a%7Cb"):
            assert http.get(f"{ONE}/{path}").get_json() == asked.answer
        assert asked.calls == [
            ("schemas", (ID,), {}),
            ("subgraphs", (ID,), {"recurse": False}),
            ("subgraphs", (ID,), {"recurse": True}),
            ("subgraphs", (ID, "a|b"), {"recurse": False}),
        ]
        assert http.get(f"{ONE}/subgraphs?recurse=perhaps").status_code == 422


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TwoContexts("text {} of it"), 400),
        (GraphNotMade("text {} of it"), 400),
        (SystemAssistant("text {} of it"), 403),
        (AssistantNotFound("text {} of it"), 404),
        (GraphNotFound("text {} of it"), 404),
        (VersionNotFound("text {} of it"), 404),
        (AssistantExists("text {} of it"), 409),
        (UnknownGraph("text {} of it"), 422),
        (StorageUnavailable("text {} of it"), 503),
    ],
)
def test_each_error_has_its_status(
    http: FlaskClient, asked: Asked, error: Exception, status: int
) -> None:
    asked.answer = error
    answer = http.get(ONE)
    assert (answer.status_code, answer.get_json()) == (status, {"detail": "text {} of it"})
