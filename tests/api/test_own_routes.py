"""The user's own app, asked for what the API lacks."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, abort, jsonify
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

import runwait
from runwait.api import access_log, errors, own_routes
from runwait.api.openapi import describe
from runwait.api.own_routes import AHEAD_BYTES, Relay, own_app
from runwait.graphs.config import GraphLoadError, read
from runwait.options.http import HttpOptions
from runwait.settings import Settings
from tests.servers import PATIENCE

MODULE = """
import asyncio
from flask import Blueprint, Flask, Response

flask = Flask("own")
flask.get("/own")(lambda: {"own": True})
blueprint = Blueprint("own", __name__)
blueprint.get("/own")(lambda: {"own": True})

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode(), environ["wsgi.input"].read()]

async def asgi(scope, receive, send):
    body = (await receive())["body"]
    if scope["path"] == "/raises":
        raise ValueError("asgi")
    if scope["path"] == "/ends":
        return
    if scope["path"] == "/half":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("asgi")
    if scope["path"] == "/framework":
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"a page"})
        raise ValueError("asgi")
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"b")]})
    await send({"type": "http.response.body", "body": scope["path"].encode(), "more_body": True})
    await send({"type": "http.response.body", "body": body})

class Asgi:
    async def __call__(self, scope, receive, send):
        await asgi(scope, receive, send)

async def lives(scope, receive, send):
    if scope["type"] == "lifespan":
        lives.seen = [await receive()]
        scope["state"]["db"] = [asyncio.get_running_loop()]
        await send({"type": "lifespan.startup.complete"})
        lives.seen.append(await receive())
        await send({"type": "lifespan.shutdown.complete"})
        return
    same = scope["state"]["db"] == [asyncio.get_running_loop()]
    scope["state"]["db"] = "a request's own"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(same).encode()})

async def fails(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback"})
    raise OSError("no database")

async def leaves(scope, receive, send):
    raise SystemExit("no key")

async def says_no(scope, receive, send):
    await send({"type": "lifespan.startup.failed", "message": "not today"})

asgi_object = Asgi()
asgi_object.openapi = lambda: {
    "paths": {
        "/own/last": {"get": {"operationId": "get", "security": [{"x": []}], "responses": {
            "200": {"description": "It.", "content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Run"}}}}}}},
        "/ok": {"get": {"responses": {"200": {"description": "Not ours."}}}},
    },
    "components": {"schemas": {"Run": {"type": "object"}}, "securitySchemes": {"x": {}}},
}

@flask.post("/own/<path:name>")
def change(name):
    '''Change
    it.

    In some way.
    '''
    return {}

nothing = 5
"""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Loads an app of the module as `http.app` does."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_module.py").write_text(MODULE)
    (tmp_path / "langgraph.json").write_text('{"graphs": {"a": "./a.py:a"}}')
    config = read(tmp_path / "langgraph.json")
    yield lambda name: own_app(config, HttpOptions(app=f"./own_module.py:{name}"))
    sys.modules.pop("own_module", None)


def client_of(own: Any) -> FlaskClient:
    """Asks an app that has /ok of its own."""
    app = Flask("api", static_folder=None)
    app.extensions["runwait"] = type("Runwait", (), {"settings": Settings(max_request_bytes=100)})()
    access_log.register(app)
    app.post("/ok")(lambda: "ours")
    errors.register(app)
    own_routes.register(app, own)
    return app.test_client()


@pytest.mark.parametrize("name", ["flask", "blueprint"])
def test_a_flask_app_or_a_blueprint_answers_what_the_api_lacks(found, name):
    client = client_of(found(name))
    assert client.get("/own").json == {"own": True}
    assert client.post("/ok").data == b"ours"
    assert client.get("/ok").status_code == 405
    for answer in (client.get("/nope"), client.post("/own")):
        assert answer.json == {"detail": answer.status.split(" ", 1)[1].title()}


def test_any_wsgi_app_does(found):
    assert client_of(found("wsgi")).post("/a%2Fb", data=b"!").data == b"/a/b!"


@pytest.mark.parametrize("name", ["asgi", "asgi_object"])
def test_an_asgi_app_does(found, name):
    answer = client_of(found(name)).post("/a", data=b"!")
    assert (answer.status_code, answer.data, answer.headers["x-a"]) == (201, b"/a!", "b")


def test_the_lifespan_of_an_asgi_app_is_around_its_requests_and_on_their_loop(found):
    own = found("lives")
    client = client_of(own)
    own_routes.start(client.application)
    app: Any = sys.modules["own_module"].__dict__["lives"]
    assert app.seen == [{"type": "lifespan.startup"}]
    for _ in range(2):
        assert client.get("/a").data == b"True"
    own_routes.stop(client.application, PATIENCE)
    assert app.seen == [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fails", "OSError: no database"),
        ("says_no", "RuntimeError: not today"),
        ("leaves", "SystemExit: no key"),
    ],
)
def test_a_lifespan_that_cannot_begin_stops_the_start(found, name, reason):
    with pytest.raises(GraphLoadError, match=f"json: http.app: its lifespan raised {reason}"):
        own_routes.start(client_of(found(name)).application)


def test_an_asgi_app_without_its_package_stops_the_start(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "a2wsgi", None)
    with pytest.raises(GraphLoadError, match=r"http.app: .*pip install 'runwait\[asgi\]'"):
        found("asgi")


@pytest.mark.parametrize(
    ("name", "problem"), [("nothing", "is no WSGI or"), ("no", "AttributeErr")]
)
def test_what_is_no_app_stops_the_start(found, name, problem):
    with pytest.raises(GraphLoadError, match=f"http.app: .*{problem}"):
        found(name)


def raising() -> Flask:
    app = Flask("raising")

    @app.get("/raises")
    def raises():
        raise ValueError("flask")

    return app


def raises_later(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", "9")])
    yield b"some"
    raise ValueError("wsgi")


def says_more(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", "9")])
    return [b"less"]


def gives_text(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", "4")])
    return ["text"]


def splits(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("X-A", "b\r\nSet-Cookie: c")])
    return [b"text"]


def ends(environ: Any, start_response: Any) -> Any:
    raise SystemExit("wsgi")


class TestWhatIsRaised:
    @pytest.mark.parametrize(
        "own",
        [raising(), raises_later, ends, says_more, gives_text, splits],
        ids=lambda own: own.name if isinstance(own, Flask) else own.__name__,
    )
    def test_is_a_500_in_json_and_a_traceback_in_the_log(self, own, caplog):
        own_routes._answer_errors(own) if isinstance(own, Flask) else None
        answer = client_of(own).get("/raises")
        assert (answer.status_code, [*answer.json]) == (500, ["detail"])
        assert "flask" not in answer.text and "wsgi" not in answer.text
        (line,) = (each for each in caplog.records if each.levelno == logging.ERROR)
        assert line.exc_info is not None

    @pytest.mark.parametrize("path", ["/raises", "/framework", "/ends"])
    def test_by_an_asgi_app_is_too(self, found, path, caplog):
        answer = client_of(found("asgi")).get(path)
        assert (answer.status_code, [*answer.json]) == (500, ["detail"])
        (line,) = (each for each in caplog.records if each.levelno == logging.ERROR)
        assert "asgi" in str(line.exc_info[1]) or path == "/ends"

    def test_by_an_asgi_app_after_half_its_answer_is_never_taken_for_the_end(self, found):
        with pytest.raises(ValueError, match="asgi"):
            client_of(found("asgi")).get("/half", buffered=True)

    def test_is_answered_by_the_handlers_of_a_flask_app_where_it_has_some(self):
        own = raising()
        own.register_error_handler(500, lambda error: ("my page", 500))
        own.register_error_handler(404, lambda error: ("not mine", 404))
        own_routes._answer_errors(own)
        assert client_of(own).get("/raises").text == "my page"
        assert client_of(own).get("/nope").text == "not mine"

    def test_as_an_http_error_keeps_its_status(self):
        own = Flask("own")
        own.get("/own")(lambda: abort(403))
        own_routes._answer_errors(own)
        answer = client_of(own).get("/own")
        assert (answer.status_code, answer.json) == (403, {"detail": "Forbidden"})


def test_a_body_that_is_too_large_never_reaches_it(found):
    answer = client_of(found("wsgi")).post("/own", data=b"x" * 101)
    assert answer.status_code == 413


def test_more_requests_than_it_may_have_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr(own_routes, "OWN_AT_ONCE", 1)
    entered, leave = threading.Event(), threading.Event()

    def slow(environ: Any, start_response: Any) -> Any:
        entered.set()
        leave.wait()
        start_response("200 OK", [("Content-Length", "0")])
        return []

    client = client_of(slow)
    other = threading.Thread(target=client.application.test_client().get, args=["/own"])
    other.start()
    entered.wait()
    try:
        refused = client.get("/own")
    finally:
        leave.set()
        other.join()
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert client.get("/own").status_code == 200


class Pieces:
    """An answer of many pieces, as a Relay takes it."""

    length: int | None = None

    def __init__(self, number: int) -> None:
        self.made = 0
        self.closed: list[bool] = []
        self._number = number

    def __iter__(self):
        while self.made < self._number:
            self.made += 1
            yield b"x" * (AHEAD_BYTES // 4)

    def check_length(self, sent: int) -> None:
        assert sent == self.length or self.length is None

    def close(self, *, early: bool = False) -> None:
        self.closed.append(early)


@pytest.fixture
def relayed():
    """A relay of so many pieces that are being made on a thread, and what it waits for."""
    app = Flask("relay")
    access_log.register(app)

    def make(number: int) -> tuple[Relay, Pieces, threading.Thread]:
        pieces = Pieces(number)
        with app.test_request_context():
            app.preprocess_request()
            relay = Relay(pieces)  # type: ignore[arg-type]
        return relay, pieces, threading.Thread(target=relay.go_on)

    return make


class TestARelay:
    def test_waits_until_the_client_takes_what_there_is(self, relayed):
        relay, pieces, thread = relayed(9)
        woken = threading.Semaphore(0)
        relay.listen(woken.release)
        thread.start()
        for _ in range(4):
            woken.acquire()
        taken = relay.take()
        assert len(taken) == 4 and pieces.made <= 5 and not relay.is_whole
        while not relay.is_whole:
            woken.acquire()
            taken += relay.take()
        thread.join()
        assert (len(taken), pieces.closed, relay.is_cut) == (9, [False], False)

    def test_is_whole_before_all_is_done_that_an_app_does_in_the_background(self, relayed):
        relay, pieces, _ = relayed(3)
        pieces.length = AHEAD_BYTES // 4
        whole: list[bool] = []
        relay.listen(lambda: whole.append(bool(relay.take()) and relay.is_whole))
        relay.go_on()
        assert whole[0] and pieces.made == 3 and pieces.closed == [False]

    def test_that_is_left_ends_what_makes_its_pieces(self, relayed):
        relay, pieces, thread = relayed(1000)
        thread.start()
        relay.close()
        thread.join()
        assert pieces.closed == [True] and pieces.made < 7


def test_all_that_wsgi_lets_an_app_do_is_passed_on():
    def old(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("X-A", "b")])
        write(b"one ")
        return iter([b"two ", b"three"])

    answer = client_of(old).get("/own")
    assert (answer.data, answer.headers["X-A"]) == (b"one two three", "b")

    own = Flask("own")
    own.get("/own", endpoint="own")(lambda: Response(status=204))
    own.get("/json", endpoint="json")(lambda: jsonify(1))
    client = client_of(own)
    assert client.get("/own").status_code == 204
    assert client.head("/json").headers["Content-Length"] == "2"


class TestDescription:
    """What /openapi.json has of it."""

    @pytest.fixture
    def described(self, found):
        def of(name: str) -> dict[str, Any]:
            app = runwait.create_app(Settings())
            app.extensions["own_app"] = found(name)
            document = describe(app)
            assert [str(each) for each in OpenAPIV31SpecValidator(document).iter_errors()] == []
            return document

        return of

    def test_of_a_flask_app_has_its_routes(self, described):
        paths = described("flask")["paths"]
        assert paths["/own"]["get"]["tags"] == ["own"]
        changed = paths["/own/{name}"]["post"]
        assert (changed["summary"], changed["operationId"]) == ("Change it.", "own_change_post")
        assert [each["name"] for each in changed["parameters"]] == ["name"]
        assert "/runs/wait" in paths

    def test_of_an_asgi_app_is_what_it_says_and_hides_nothing(self, described):
        document = described("asgi_object")
        answer = document["paths"]["/own/last"]["get"]["responses"]["200"]
        reference = answer["content"]["application/json"]["schema"]["$ref"]
        assert reference == "#/components/schemas/own_Run"
        schemas = document["components"]["schemas"]
        assert schemas["own_Run"] == {"type": "object"}
        assert schemas["Run"] != schemas["own_Run"]
        assert document["paths"]["/ok"]["get"]["summary"] == "The process is alive."
        assert "security" not in document["paths"]["/own/last"]["get"]

    def test_of_any_other_app_has_nothing(self, described):
        assert described("wsgi")["paths"] == describe(runwait.create_app(Settings()))["paths"]
