"""Where requests come from, where the service is, and pages of other origins."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from flask import Flask, jsonify, request
from werkzeug.test import TestResponse

from runwait.api import access_log, edge, errors
from runwait.options.http import Cors, HttpOptions
from runwait.settings import Settings

ORIGIN = "https://a.example"


def app_of(options: HttpOptions | None = None, **settings: Any) -> Flask:
    options = options or HttpOptions()
    app = edge.Api(options)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    access_log.register(app)
    edge.register(app, Settings(**settings), options)

    @app.get("/ok")
    def ok():
        return jsonify(ok=True)

    @app.route("/where", methods=["GET", "POST"])
    def where():
        return jsonify(
            client=request.remote_addr, here=edge.here("/threads/1"), url=request.base_url
        )

    @app.get("/")
    def page():
        return "a page"

    @app.get("/store/items")
    def items():
        return "here"

    @app.get("/fault")
    def fault():
        raise RuntimeError

    errors.register(app)
    return app


def ask(app: Flask, path: str, method: str = "GET", **headers: str) -> TestResponse:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().open(path, method=method, headers=given)


class TestAPrefix:
    APP = app_of(HttpOptions(prefix="/v1.0/x"))

    def test_is_where_all_paths_are_and_ok_at_the_root_too(self):
        assert ask(self.APP, "/v1.0/x/where").status_code == 200
        assert ask(self.APP, "/v1.0/x/ok").json == ask(self.APP, "/ok").json == {"ok": True}

    @pytest.mark.parametrize(
        "path",
        [
            "/where",
            "/",
            "/v1.0/xwhere",
            "/v1.0",
            "/v1.0/x",
            "/v1.0/x//",
            "/v1-0/x/where",
            "/V1.0/x/ok",
        ],
    )
    def test_is_needed(self, path):
        answer = ask(self.APP, path)
        assert (answer.status_code, answer.json) == (404, {"detail": "Not Found"})

    def test_is_in_the_paths_that_clients_are_told(self):
        assert ask(self.APP, "/v1.0/x/where").json["here"] == "/v1.0/x/threads/1"

    def test_of_a_proxy_is_never_taken_for_a_host(self):
        app = app_of(forwarded_hops=1)
        found = ask(app, "/where", X_Forwarded_Prefix="//evil.example/").json
        assert found["here"] == "/evil.example/threads/1"

    def test_comes_behind_that_of_a_proxy_which_takes_its_own_off(self):
        app = app_of(HttpOptions(prefix="/x"), forwarded_hops=1)
        found = ask(app, "/x/where", X_Forwarded_Prefix="/outer/").json
        assert found["here"] == "/outer/x/threads/1"
        assert found["url"] == "http://localhost/outer/x/where"


class TestForwardedHeaders:
    FORGED: ClassVar = {
        "X_Forwarded_For": "6.6.6.6",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Host": "evil.example",
        "X_Forwarded_Prefix": "/evil",
        "Forwarded": "for=6.6.6.6;proto=https;host=evil.example",
    }
    AS_IT_CAME: ClassVar = {
        "client": "127.0.0.1",
        "here": "/threads/1",
        "url": "http://localhost/where",
    }

    def test_are_nobodys_word_unless_proxies_are_counted(self):
        assert ask(app_of(), "/where", **self.FORGED).json == self.AS_IT_CAME

    def test_are_believed_of_as_many_proxies_as_there_are(self):
        given = {
            name: f"forged, {value}"
            for name, value in {
                "X_Forwarded_For": "1.1.1.1, 2.2.2.2",
                "X_Forwarded_Proto": "https, http",
                "X_Forwarded_Host": "a.example, b.example",
                "X_Forwarded_Prefix": "/a, /b",
            }.items()
        }
        assert ask(app_of(forwarded_hops=2), "/where", **given).json == {
            "client": "1.1.1.1",
            "here": "/a/threads/1",
            "url": "https://a.example/a/where",
        }

    def test_are_not_believed_where_there_are_fewer(self):
        assert ask(app_of(forwarded_hops=2), "/where", **self.FORGED).json == self.AS_IT_CAME

    def test_are_only_those_that_the_proxies_set(self):
        app = app_of(forwarded_hops=1, forwarded_headers=["for", "proto"])
        assert ask(app, "/where", **self.FORGED).json == {
            "client": "6.6.6.6",
            "here": "/threads/1",
            "url": "https://localhost/where",
        }

    def test_with_a_quote_that_the_client_began_hide_nobody(self):
        app = app_of(forwarded_hops=1)
        assert ask(app, "/where", X_Forwarded_For='"6.6.6.6, 1.1.1.1').json["client"] == "1.1.1.1"


class TestOtherOrigins:
    def test_are_told_nothing_by_default(self):
        answer = ask(app_of(), "/where", Origin=ORIGIN)
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
        preflight = ask(
            app_of(), "/where", "OPTIONS", Origin=ORIGIN, Access_Control_Request_Method="POST"
        )
        assert preflight.status_code == 405

    @pytest.mark.parametrize(
        ("path", "method", "status"),
        [
            ("/where", "GET", 200),
            ("/nope", "GET", 404),
            ("/where", "PUT", 405),
            ("/fault", "GET", 500),
        ],
    )
    def test_that_are_allowed_may_read_each_answer(self, path, method, status):
        answer = ask(app_of(HttpOptions(cors=Cors([ORIGIN]))), path, method, Origin=ORIGIN)
        assert answer.status_code == status
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [ORIGIN]
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "Content-Location", "X-Pagination-Total"} < {*exposed}
        assert "Access-Control-Allow-Credentials" not in answer.headers

    @pytest.mark.parametrize("origin", [ORIGIN, "https://evil.example", None])
    @pytest.mark.parametrize("path", ["/where", "/nope", "/fault"])
    def test_never_share_a_cached_answer_with_those_that_are_allowed(self, path, origin):
        given = {"Origin": origin} if origin else {}
        answer = ask(app_of(HttpOptions(cors=Cors([ORIGIN]))), path, **given)
        assert answer.headers.getlist("Vary") == ["Origin"]
        for cors in (Cors(["*"]), None):
            # All origins get the same, and may share it.
            assert "Vary" not in ask(app_of(HttpOptions(cors=cors)), path, **given).headers

    def test_ask_beforehand_and_are_told_what_they_may(self):
        cors = Cors([ORIGIN], methods=["POST"], headers=["X-Api-Key"], credentials=True, max_age=7)
        asked = {
            "Origin": ORIGIN,
            "Access_Control_Request_Method": "POST",
            "Access_Control_Request_Headers": "x-api-key,x-other",
        }
        answer = ask(app_of(HttpOptions(cors=cors)), "/nope", "OPTIONS", **asked)
        assert (answer.status_code, answer.data) == (204, b"")
        told = {
            name.removeprefix("Access-Control-"): value
            for name, value in answer.headers.items()
            if name.startswith("Access-Control-") and "Expose" not in name
        }
        assert told == {
            "Allow-Origin": ORIGIN,
            "Allow-Methods": "POST",
            "Allow-Headers": "x-api-key",
            "Allow-Credentials": "true",
            "Max-Age": "7",
        }

    @pytest.mark.parametrize(
        ("cors", "origin", "allowed"),
        [
            (Cors([ORIGIN]), "https://a.example.evil.example", None),
            (Cors([ORIGIN]), "https://axexample", None),
            (Cors([ORIGIN]), "http://a.example", None),
            (Cors([ORIGIN]), "https://a.example:8443", None),
            (Cors([ORIGIN]), "null", None),
            (Cors(["*"]), "null", "*"),
            (Cors(["*"]), "https://b.example", "*"),
            (Cors(["https://*.example"]), "https://a.example", None),
            (Cors([], r"https://\w+\.example"), ORIGIN, ORIGIN),
            (Cors([], r"https://\w+\.example"), f"{ORIGIN}.evil.net", None),
            (Cors([], r"https://\w+\.example"), f"{ORIGIN}\n", None),
            (Cors([], r"https://a|https://b"), "https://a.evil.example", None),
        ],
    )
    def test_are_allowed_by_the_whole_of_their_name(self, cors, origin, allowed):
        environ = {"HTTP_ORIGIN": origin}
        answer = app_of(HttpOptions(cors=cors)).test_client().get("/where", environ_base=environ)
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed


def test_paths_that_are_turned_off_are_not_there():
    answer = ask(app_of(HttpOptions(disabled=frozenset({"store"}))), "/store/items")
    assert (answer.status_code, answer.json) == (404, {"detail": "Not Found"})
    assert ask(app_of(), "/store/items").data == b"here"


def test_each_answer_has_the_id_of_its_request():
    assert ask(app_of(), "/where", X_Request_ID="mine").headers["X-Request-ID"] == "mine"
    for path in ("/nope", "/fault"):
        assert ask(app_of(), path, X_Request_ID="mine").headers["X-Request-ID"] == "mine"
