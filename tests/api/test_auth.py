"""Every route asks who calls, and whether they may; but for those that everybody may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

import runwait
from runwait import options
from runwait.api import auth
from runwait.api.jsonrpc import INVALID_PARAMS
from runwait.auth.errors import Refused
from runwait.auth.filters import Filters
from runwait.auth.request import Request
from runwait.auth.user import CALLER, User
from runwait.graphs.assistants import AssistantNotFound
from runwait.settings import Settings
from runwait.storage.threads import ThreadExists
from tests.servers import RedisServer

ID = "00000000-0000-0000-0000-00000000000a"
RUN: dict[str, Any] = {"assistant_id": "mapreduce"}
CRON = {**RUN, "schedule": "@daily"}
ITEM = {"namespace": ["a"], "key": "k"}

# Each route: what is asked of it, and what handlers are then asked. A new one needs an entry here,
# and a question of its own, unless everybody may ask for it (docs/auth.md).
ROUTES: dict[str, tuple[Any, list[str]]] = {
    "POST /runs/wait": (RUN, ["threads.create_run"]),
    "POST /runs/stream": (RUN, ["threads.create_run"]),
    "POST /runs": (RUN, ["threads.create_run"]),
    "POST /runs/batch": ([RUN, RUN], ["threads.create_run", "threads.create_run"]),
    "POST /threads/<thread_id>/runs/wait": (RUN, ["threads.create_run"]),
    "POST /threads/<thread_id>/runs/stream": (RUN, ["threads.create_run"]),
    "POST /threads/<thread_id>/runs": (RUN, ["threads.create_run"]),
    "GET /threads/<thread_id>/runs": (None, ["threads.read"]),
    "GET /threads/<thread_id>/runs/<run_id>": (None, ["threads.read"]),
    "GET /threads/<thread_id>/runs/<run_id>/join": (None, ["threads.read"]),
    "GET /threads/<thread_id>/runs/<run_id>/stream": (None, ["threads.read"]),
    "GET /runs/<run_id>/stream": (None, ["threads.read"]),
    "GET /threads/<thread_id>/stream": (None, ["threads.read"]),
    "POST /threads/<thread_id>/runs/<run_id>/cancel": (None, ["threads.update"]),
    "POST /runs/cancel": ({"status": "all"}, ["threads.update"]),
    "DELETE /threads/<thread_id>/runs/<run_id>": (None, ["threads.delete"]),
    "POST /threads": ({}, ["threads.create"]),
    "GET /threads/<thread_id>": (None, ["threads.read"]),
    "PATCH /threads/<thread_id>": ({}, ["threads.update"]),
    "DELETE /threads/<thread_id>": (None, ["threads.delete"]),
    "POST /threads/search": ({}, ["threads.search"]),
    "POST /threads/count": ({}, ["threads.search"]),
    "POST /threads/<thread_id>/copy": (None, ["threads.read", "threads.create"]),
    "POST /threads/prune": ({"thread_ids": [ID]}, ["threads.delete"]),
    "GET /threads/<thread_id>/state": (None, ["threads.read"]),
    "GET /threads/<thread_id>/state/<checkpoint_id>": (None, ["threads.read"]),
    "POST /threads/<thread_id>/state/checkpoint": ({"checkpoint": {}}, ["threads.read"]),
    "POST /threads/<thread_id>/state": ({}, ["threads.update"]),
    "PATCH /threads/<thread_id>/state": ({"metadata": {}}, ["threads.update"]),
    "GET /threads/<thread_id>/history": (None, ["threads.read"]),
    "POST /threads/<thread_id>/history": ({}, ["threads.read"]),
    "POST /threads/<thread_id>/commands": (
        {"id": 1, "method": "run.start", "params": RUN},
        # Before the thread is looked at, and as any run.
        ["threads.create_run", "threads.create_run"],
    ),
    "POST /threads/<thread_id>/stream/events": ({"channels": ["values"]}, ["threads.read"]),
    "POST /assistants": ({"graph_id": "mapreduce"}, ["assistants.create"]),
    "POST /assistants/search": ({}, ["assistants.search"]),
    "POST /assistants/count": ({}, ["assistants.search"]),
    "GET /assistants/<assistant_id>": (None, ["assistants.read"]),
    "PATCH /assistants/<assistant_id>": ({}, ["assistants.update"]),
    "DELETE /assistants/<assistant_id>": (None, ["assistants.delete"]),
    "POST /assistants/<assistant_id>/versions": ({}, ["assistants.read"]),
    "POST /assistants/<assistant_id>/latest": ({"version": 1}, ["assistants.update"]),
    "GET /assistants/<assistant_id>/schemas": (None, ["assistants.read"]),
    "GET /assistants/<assistant_id>/graph": (None, ["assistants.read"]),
    "GET /assistants/<assistant_id>/subgraphs": (None, ["assistants.read"]),
    "GET /assistants/<assistant_id>/subgraphs/<namespace>": (None, ["assistants.read"]),
    "PUT /store/items": ({**ITEM, "value": {}}, ["store.put"]),
    "GET /store/items": ("?namespace=a&key=k", ["store.get"]),
    "DELETE /store/items": (ITEM, ["store.delete"]),
    "POST /store/items/search": ({}, ["store.search"]),
    "POST /store/namespaces": ({}, ["store.list_namespaces"]),
    "POST /runs/crons": (CRON, ["crons.create"]),
    "POST /threads/<thread_id>/runs/crons": (CRON, ["threads.read", "crons.create"]),
    "GET /runs/crons/<cron_id>": (None, ["crons.read"]),
    "PATCH /runs/crons/<cron_id>": ({"enabled": False}, ["crons.update"]),
    "DELETE /runs/crons/<cron_id>": (None, ["crons.delete"]),
    "POST /runs/crons/search": ({}, ["crons.search"]),
    "POST /runs/crons/count": ({}, ["crons.search"]),
    "POST /mcp": (
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "mapreduce", "arguments": {"documents": ["a"]}},
        },
        ["assistants.search", "assistants.read", "threads.create_run"],
    ),
    "GET /.well-known/agent-card.json": ("?assistant_id=mapreduce", ["assistants.read"]),
    "GET /a2a/<assistant_id>/.well-known/agent-card.json": (None, ["assistants.read"]),
    "POST /a2a/<assistant_id>": (
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "message/send",
            "params": {
                "message": {
                    "messageId": "m",
                    "role": "user",
                    "parts": [{"kind": "data", "data": {"documents": ["a"]}}],
                }
            },
        },
        ["assistants.read", "threads.create_run"],
    ),
    "GET /webhooks/dead": (None, ["threads.search"]),
    "POST /webhooks/dead/<run_id>/retry": (None, ["threads.update"]),
}
# What everybody may ask for, as the contract of the Agent Server has it; and `/`'s page.
OPEN = {"GET /ok", "GET /ready", "GET /info", "GET /metrics", "GET /docs", "GET /openapi.json"}
OPEN |= {"GET /"}
FILES = {"GET /docs/<file>", "GET /workbench/<file>"}
# Further calls of a route, which ask for more.
ALSO: dict[str, tuple[Any, list[str]]] = {
    "POST /threads/<thread_id>/commands": (
        {"id": 1, "method": "agent.getTree", "params": {}},
        ["threads.read"],
    ),
    "GET /threads/<thread_id>/runs/<run_id>/join": (
        "?cancel_on_disconnect=true",
        ["threads.read", "threads.update"],
    ),
    "GET /runs/<run_id>/stream": (
        "?cancel_on_disconnect=true",
        ["threads.read", "threads.update"],
    ),
    "DELETE /assistants/<assistant_id>": (
        "?delete_threads=true",
        ["assistants.delete", "threads.delete"],
    ),
}


class Recorder:
    """Lets in who says that they are ada, and notes what they are asked."""

    isolates = False
    guards_own_routes = True
    asks_for_keys = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Filters | Exception | None = None
        # To what one action is answered otherwise.
        self.filters: dict[str, Filters] = {}

    def caller(self, request: Request) -> User:
        if request.headers.get("x-api-key") != "ada's":
            raise Refused(401, "nobody")
        return User({"identity": "ada"})

    def authorize(
        self, user: User, resource: str, action: str, value: dict[str, Any]
    ) -> Filters | None:
        assert user.identity == "ada"
        self.asked.append(f"{resource}.{action}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.filters.get(f"{resource}.{action}", self.answer)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def app(
    recorder: Recorder, running: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flask]:
    server: RedisServer = running("valkey-server")
    settings = Settings(redis_url=server.url, redis_prefix="routes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "access_of", lambda *_: recorder)
        app = runwait.create_app(settings)
    yield app


@pytest.fixture
def http(app: Flask, recorder: Recorder) -> FlaskClient:
    recorder.asked.clear()
    recorder.answer = Refused(403, "not you")
    return app.test_client()


def routes(app: Flask) -> list[str]:
    return [
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def call(http: FlaskClient, route: str, given: Any = None, **headers: str) -> Any:
    method, _, path = route.partition(" ")
    path = path.replace("/a2a/<assistant_id>", "/a2a/mapreduce")
    for name in ("thread_id", "run_id", "checkpoint_id", "assistant_id", "cron_id"):
        path = path.replace(f"<{name}>", ID)
    path = path.replace("<namespace>", "a")
    body = None if isinstance(given, str) else given
    query = given if isinstance(given, str) else ""
    return http.open(path + query, method=method, json=body, headers=headers)


def test_every_route_is_open_or_has_an_entry(app):
    assert {each for each in routes(app) if not auth.is_open(each.split(" ", 1)[1])} == set(ROUTES)
    assert {each for each in routes(app) if auth.is_open(each.split(" ", 1)[1])} <= OPEN | FILES
    assert {f"GET {path}" for path in auth.OPEN} == OPEN


def test_every_route_that_is_not_open_refuses_who_is_not_known(app, http, recorder):
    for route in [*ROUTES, "GET /nothing", "PUT /threads", "GET /threads/no-uuid"]:
        for headers in ({}, {"X-Api-Key": "eve's"}):
            answer = call(http, route, **headers)
            assert (answer.status_code, answer.json) == (401, {"detail": "nobody"}), route
    assert recorder.asked == []


def test_what_is_open_is_answered_to_whom_nobody_knows(http):
    assert http.get("/ok").status_code == 200
    assert http.get("/info").status_code == 200
    assert http.get("/ok/").status_code == 401
    assert http.get("/docs/../threads").status_code == 404


def test_what_the_project_answers_is_not_open_for_how_its_path_begins(app, http, monkeypatch):
    runwait_ = app.extensions["runwait"]
    with_own = replace(runwait_, http=replace(runwait_.http, app="./own.py:app"))
    monkeypatch.setitem(app.extensions, "runwait", with_own)
    for path in ("/docs/../a", "/workbench/../a", "/workbench/", "/docs/a/b"):
        assert http.get(path).status_code == 401, path
        assert http.get(path, headers={"X-Api-Key": "ada's"}).status_code == 404, path
    assert http.get("/docs/nothing.css").status_code == 404
    assert http.get("/ok").status_code == 200


@pytest.mark.parametrize("more", [False, True])
def test_every_route_asks_whether_the_caller_may(http, recorder, more):
    for route, (given, asked) in (ALSO if more else ROUTES).items():
        recorder.asked.clear()
        answer = call(http, route, given, **{"X-Api-Key": "ada's"})
        assert (answer.status_code, answer.json) == (403, {"detail": "not you"}), route
        # The first no is enough.
        assert recorder.asked == asked[:1], route


@pytest.mark.parametrize("more", [False, True])
def test_every_route_asks_all_that_there_is_to_be_asked(http, recorder, more):
    for route, (given, asked) in (ALSO if more else ROUTES).items():
        recorder.asked.clear()
        recorder.answer = None
        call(http, route, given, **{"X-Api-Key": "ada's"})
        assert recorder.asked == asked, route


def test_a_tool_whose_assistant_may_not_be_read_is_not_called(app, http, recorder, monkeypatch):
    def require(assistant_id: str, filters: Filters) -> None:
        assert filters == {"owner": "ada"}
        raise AssistantNotFound(assistant_id)

    monkeypatch.setattr(app.extensions["runwait"].service.assistants, "require", require)
    monkeypatch.setitem(recorder.filters, "assistants.read", {"owner": "ada"})
    recorder.answer = None
    answer = call(http, "POST /mcp", ROUTES["POST /mcp"][0], **{"X-Api-Key": "ada's"})
    assert answer.json["error"]["code"] == INVALID_PARAMS
    assert recorder.asked == ["assistants.search", "assistants.read"]


@pytest.mark.parametrize("resource", ["threads", "assistants"])
def test_what_was_there_before_it_is_made_is_no_answer_unless_it_may_be_read(
    app, http, recorder, monkeypatch, resource
):
    known: list[bool] = []

    def create(*_: Any, is_there: Callable[[dict[str, str]], bool], **given: Any) -> None:
        known.extend(is_there({"owner": name}) for name in ("ada", "bob"))
        raise ThreadExists(ID)

    monkeypatch.setattr(getattr(app.extensions["runwait"].service, resource), "create", create)
    monkeypatch.setitem(recorder.filters, f"{resource}.read", {"owner": "ada"})
    recorder.answer = None
    made = {"graph_id": "mapreduce", "assistant_id": ID} if resource == "assistants" else {}
    call(http, f"POST /{resource}", {**made, "if_exists": "do_nothing"}, **{"X-Api-Key": "ada's"})
    assert known == [True, False]
    assert recorder.asked[:2] == [f"{resource}.create", f"{resource}.read"]


def test_nobody_calls_once_a_request_is_over(http, recorder):
    call(http, "GET /threads/<thread_id>", **{"X-Api-Key": "ada's"})
    assert CALLER.get() is None


def test_the_description_says_that_it_is_asked_who_calls(http):
    described = http.get("/openapi.json").json
    assert described["components"]["securitySchemes"].keys() == {"key", "bearer"}
    assert "401" in described["paths"]["/runs/wait"]["post"]["responses"]


def test_where_nobody_is_asked_who_they_are_nothing_is_added_to_a_request(app):
    without = runwait.create_app(Settings(redis_url="redis://127.0.0.1:1"))
    for kind in ("before_request_funcs", "after_request_funcs", "teardown_request_funcs"):
        more, fewer = (len(getattr(each, kind).get(None, [])) for each in (app, without))
        assert more - fewer == (kind != "after_request_funcs"), kind
