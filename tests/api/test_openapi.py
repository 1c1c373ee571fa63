"""The API's description: whole, valid, and what views declare."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from runwait import create_app
from runwait.api import openapi
from runwait.api.openapi import describe
from runwait.api.operation import declared_by
from runwait.graphs.config import GraphLoadError, LanggraphConfig
from runwait.settings import Settings
from tests.compare.openapi import facts

OBSERVED = json.loads((Path(__file__).parent / "observed.json").read_text())

# Calls of the reference that are not here, and why.
ABSENT = {
    "GET /threads/{thread_id}/storage": "tells how its own database keeps a thread",
    "GET /mcp/": "all that it says is 405, as any call of a wrong method",
    "DELETE /mcp/": "all that it says is that there is no such call",
}
# What is said there of a call, and is not here.
LESS = {
    ("GET /info", "answer", "metadata"): "of its own deployment",
    ("POST /assistants/{assistant_id}/latest", "parameters", "query version"): (
        "SDKs send it in the body, and there both are read"
    ),
    ("POST /threads/{thread_id}/commands", "answer", "stacktrace"): "is nobody's business",
    **{
        (call, "answer", "langsmith_session_name"): "of its own tracing"
        for call in (
            "GET /threads/{thread_id}/runs",
            "POST /threads/{thread_id}/runs",
            "GET /threads/{thread_id}/runs/{run_id}",
        )
    },
    **{
        (call, "types", "application/json"): "there is no body: 204 or 202"
        for call in (
            "DELETE /assistants/{assistant_id}",
            "DELETE /runs/crons/{cron_id}",
            "DELETE /threads/{thread_id}",
            "DELETE /threads/{thread_id}/runs/{run_id}",
            "POST /threads/{thread_id}/runs/{run_id}/cancel",
        )
    },
}
# Calls of the reference that will be here: each is compared once it is.
TO_COME = ("/mcp", "/a2a", "/metrics", "/docs", "query check_db")


@pytest.fixture(scope="module")
def app() -> Flask:
    """The whole app, of which nothing is started."""
    return create_app(Settings())


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    """Its description, as a client has it."""
    found: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation, and the call that it describes."""
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            yield f"{method.upper()} {path}", each


def test_is_valid(document):
    assert [str(each) for each in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_describes_every_route(app, document):
    routes = {
        f"{method} {rule.rule.replace('<', '{').replace('>', '}')}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }

    assert {call for call, _ in operations(document)} == routes


def test_says_of_every_call_what_it_does_and_how_it_may_end(document):
    seen = set()
    for call, each in operations(document):
        assert each["summary"].endswith("."), call
        assert all(
            response.keys() & {"description", "$ref"} for response in each["responses"].values()
        )
        assert any(status.startswith("2") for status in each["responses"]), call
        seen.add(each["operationId"])

    assert len(seen) == len(list(operations(document)))


def test_says_of_every_parameter_what_it_means(document):
    given = [each for _, operation in operations(document) for each in operation["parameters"]]
    for each in [*given, *document["components"]["parameters"].values()]:
        assert "$ref" in each or each["description"].endswith("."), each
        assert "$ref" in each or _is_shown(each["schema"]), each


def test_says_of_every_field_what_it_means_and_shows_one(document):
    schemas = document["components"]["schemas"]
    assert len(schemas) > 30
    for name, schema in schemas.items():
        for field, said in schema["properties"].items():
            assert said.get("description", "").endswith("."), (name, field)
            assert _is_shown(said), (name, field)


def _is_shown(schema: dict[str, Any]) -> bool:
    """Whether there is an example, or no need of one."""
    if {"examples", "enum", "$ref", "default"} & schema.keys() or schema.get("type") == "boolean":
        return True
    inner = [schema["items"]] if "items" in schema else schema.get("anyOf", [])
    return (bool(inner) and all(map(_is_shown, inner))) or schema == {"type": "null"}


def test_every_example_is_valid(document):
    def check(value: Any) -> int:
        if isinstance(value, list):
            return sum(map(check, value))
        if not isinstance(value, dict):
            return 0
        count = 0
        if isinstance(value.get("examples"), list):
            schema = {**value, "components": document["components"]}
            for example in value["examples"]:
                errors = [
                    each.message for each in Draft202012Validator(schema).iter_errors(example)
                ]
                assert errors == [], (value, example)
                count += 1
        return count + sum(check(each) for name, each in value.items() if name != "examples")

    assert check({**document}) > 100


def test_names_the_server_with_the_prefix_that_it_is_behind(app):
    client = app.test_client()
    assert client.get("/openapi.json").json["servers"] == [{"url": "/"}]
    behind = client.get("/openapi.json", environ_overrides={"SCRIPT_NAME": "/graphs"})
    assert behind.json["servers"] == [{"url": "/graphs"}]


def test_is_made_only_if_somebody_asks_for_it():
    program = (
        "import sys; from runwait import create_app; from runwait.settings import Settings;"
        "create_app(Settings()); assert not {'apispec', 'apispec.ext.marshmallow'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_is_made_once(app, document, monkeypatch):
    monkeypatch.setattr("runwait.api.openapi.describe", None)
    assert app.test_client().get("/openapi.json").get_json() == document


@pytest.mark.parametrize("call", sorted(OBSERVED))
def test_has_what_the_reference_says_of_a_call(document, call):
    ours = facts(document)
    if call in ABSENT or any(each in call for each in TO_COME):
        assert call not in ours or call not in ABSENT
        return
    lacking = {
        (call, part, name)
        for part, names in OBSERVED[call].items()
        for name in set(names) - set(ours[call][part])
        if name not in TO_COME
    }
    assert lacking == {each for each in LESS if each[0] == call}


def test_describe_is_the_same_each_time(app):
    assert describe(app) == describe(app)


def test_every_example_of_a_body_is_valid(app, document):
    shown = {
        (rule.rule, method): body.example
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
        if (declared := declared_by(app.view_functions[rule.endpoint])) is not None
        if (body := declared.body) is not None
        and body.example is not None
        and body.of(body.example)
    }

    assert len(shown) > 10


class TestGuarded:
    @staticmethod
    def described(app: Flask, auth: dict[str, Any], *, by_keys: bool = False) -> dict[str, Any]:
        """The description of the app, if callers must be known."""
        config = LanggraphConfig(Path(), {}, (), {}, sections={"auth": auth})
        openapi.register(app, config, SimpleNamespace(asks_for_keys=by_keys))
        try:
            return json.loads(json.dumps(describe(app)))
        finally:
            del app.extensions["openapi.guard"]

    def test_says_that_a_key_is_needed_and_where_it_is_not(self, app):
        # Also where the project's auth says no more than who may do what.
        document = self.described(app, {"path": "./auth.py:auth"}, by_keys=True)
        assert [*OpenAPIV31SpecValidator(document).iter_errors()] == []
        assert document["security"] == [{"key": []}, {"bearer": []}]
        for path in ("/ok", "/ready", "/docs", "/openapi.json"):
            said = document["paths"][path]["get"]
            assert (said["security"], {"401", "403"} & {*said["responses"]}) == ([], set())
        said = document["paths"]["/threads"]["post"]
        assert "security" not in said
        assert {"401", "403"} <= {*said["responses"]}

    def test_says_what_the_project_says_of_it(self, app):
        scheme = {"type": "openIdConnect", "openIdConnectUrl": "https://example.com/oidc"}
        given = {"securitySchemes": {"ours": scheme}, "security": [{"ours": ["read"]}]}
        document = self.described(app, {"openapi": given})
        assert document["components"]["securitySchemes"] == {"ours": scheme}
        assert document["security"] == [{"ours": ["read"]}]

    @pytest.mark.parametrize(
        "said", [5, [], {"securitySchemes": 5}, {"security": {}}, {"security": [5]}], ids=str
    )
    def test_stops_the_start_where_the_project_says_it_wrong(self, app, said):
        with pytest.raises(GraphLoadError, match=r"auth\.openapi"):
            self.described(app, {"openapi": said})

    def test_says_nothing_where_nobody_is_asked(self, document):
        assert "security" not in document
        assert "securitySchemes" not in document["components"]


class TestPage:
    def test_is_a_page_of_files_of_this_server_alone(self, app):
        page = app.test_client().get("/docs")
        assert page.mimetype == "text/html"
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        named = re.findall(r'(?:src|href)="(.+?)"', page.text)
        assert len(named) == 5
        for name in named:
            assert app.test_client().get(f"/{name}").status_code == 200, name

    @pytest.mark.parametrize("name", ["docs.html", "LICENSE", "..%2f__init__.py", "x"])
    def test_has_no_other_files(self, app, name):
        assert app.test_client().get(f"/docs/{name}").status_code == 404

    def test_is_in_the_log(self, app, caplog):
        with caplog.at_level("INFO"):
            app.test_client().get("/docs").close()
        assert [each.path for each in caplog.records] == ["/docs"]
