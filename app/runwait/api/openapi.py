"""The API's own description (OpenAPI 3.1) at /openapi.json, made of what views declare; /docs, a
page that shows it."""

from __future__ import annotations

import inspect
import json
import logging
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule

from runwait.api import answers, fields, own_routes
from runwait.api.operation import Answer, Operation, declared_by, operation
from runwait.api.resources import Error
from runwait.api.schemas import AN_ID, Batch, Texts
from runwait.auth.access import Access
from runwait.graphs.config import LanggraphConfig
from runwait.options.section import Section
from runwait.serialization import dumps
from runwait.version import __version__

blueprint = Blueprint("openapi", __name__)
log = logging.getLogger("runwait.requests")

ABOUT = """\
Runs LangGraph graphs. What this server takes and gives is as LangGraph's SDKs have it.

A field that is not described is ignored; one that is not as it must be is refused with 422, and
all that is wrong is named at once. The type of a request's body need not be said.
"""

# What a path may name.
IDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "thread_id": ("The thread's id.", fields.UUID, AN_ID),
    "run_id": ("The run's id.", fields.UUID, AN_ID),
    "checkpoint_id": ("The checkpoint's id.", fields.UUID, AN_ID),
    "assistant_id": ("The assistant's id, or its graph's name.", fields.STRING, "chat"),
    "cron_id": ("The cron's id.", fields.UUID, AN_ID),
    "file": ("The file's name.", fields.STRING, "docs.js"),
    "name": ("The file's name.", fields.STRING, "main.js"),
    "namespace": ("The subgraph's namespace.", fields.STRING, "writer"),
}

# How a caller is known, unless `auth.openapi` of langgraph.json says it.
KEYS = {
    "securitySchemes": {
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "A key."},
        "bearer": {"type": "http", "scheme": "bearer", "description": "The same key."},
    }
}

# Why a call may not be done.
REFUSALS = {
    HTTPStatus.BAD_REQUEST: "The request contradicts itself, or its body breaks off.",
    HTTPStatus.UNAUTHORIZED: "It is not known who calls.",
    HTTPStatus.FORBIDDEN: "That cannot be changed, or not by this caller.",
    HTTPStatus.NOT_FOUND: "There is no such thread, run, checkpoint, cron or assistant.",
    HTTPStatus.CONFLICT: "It does not go with what is there: the thread is busy, the id is taken, "
    "nothing waits for the answer, or the run of the Idempotency-Key has not ended.",
    HTTPStatus.GONE: "That event is not kept any more.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than this server takes.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The request is not as it must be; the detail names what.",
    HTTPStatus.BAD_GATEWAY: "The project's embedding function failed; nothing was stored.",
    HTTPStatus.GATEWAY_TIMEOUT: "The project's embedding function took too long.",
    HTTPStatus.SERVICE_UNAVAILABLE: "No room for another run or client, or Redis is away.",
}
_HEADERS = {
    HTTPStatus.CONFLICT: {"Location": "Of an Idempotency-Key: where its run can be waited for."},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "Come again after so many seconds."},
}

_REQUEST_ID = {
    "description": "What the request is called in the log and, as `langgraph_request_id`, in the "
    "graph's config: 1 to 255 printable ASCII characters. One is made if it is anything else.",
    "schema": {"type": "string", "examples": ["order-4711"]},
}


def register(app: Flask, config: LanggraphConfig, access: Access | None) -> None:
    """Have the description say how a caller is known, where that is asked.

    Raises:
        GraphLoadError: `auth.openapi` of langgraph.json is not as it must be.
    """
    said = Section.of(config, "auth").inner("openapi")
    said.inner("securitySchemes")
    said.items("security", "objects", lambda each: isinstance(each, dict))
    if access is not None:
        # What the project's own code asks for is the project's to say.
        known = KEYS if access.asks_for_keys else {}
        app.extensions["openapi.guard"] = said.given or known


def guard() -> dict[str, Any]:
    """How a caller is known: `securitySchemes` and `security`, as OpenAPI has them; {} where nobody
    is asked, or nobody says how."""
    said: dict[str, Any] = current_app.extensions.get("openapi.guard", {})
    return said


@blueprint.get("/openapi.json")
@operation(gives=Answer("This description.", fields.OBJECT), stored=False)
def openapi() -> Response:
    """This API's description."""
    return answers.answer(description())


@blueprint.get("/docs")
@operation(gives=Answer("The page.", fields.STRING, mimetype="text/html"), stored=False)
def docs() -> Response:
    """A page that shows this API, and tries it out."""
    response = answers.file(_PAGES / "docs.html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@blueprint.get("/docs/<file>")
@operation(
    gives=Answer("The file.", fields.STRING, mimetype="text/javascript"),
    refuses=[HTTPStatus.NOT_FOUND],
    stored=False,
)
def docs_file(file: str) -> Response:
    """A file that the page needs."""
    import flask_swagger_ui  # type: ignore[import-untyped]

    if file == "docs.js":
        folder = _PAGES
    elif file in _SWAGGER_UI:
        folder = Path(flask_swagger_ui.__file__).parent / "dist"
    else:
        raise NotFound
    response = answers.file(folder / file, max_age=3600)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


_PAGES = Path(__file__).parent / "pages"
_SWAGGER_UI = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
# Nothing from elsewhere, and no other page has it in a frame, where its buttons could be pressed.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def description() -> dict[str, Any]:
    """The description of the current app, as a request sees it."""
    made = current_app.extensions.get("openapi")
    if made is None:
        made = current_app.extensions["openapi"] = describe(current_app)
    return {**made, "servers": [{"url": request.script_root or "/"}]}


def describe(app: Flask) -> dict[str, Any]:
    """The description of an app: of each of its routes whose view declares something."""
    # Nobody needs these who does not ask for it.
    from apispec import APISpec
    from apispec.ext.marshmallow import MarshmallowPlugin

    def schema_of(converter: Any, field: Any, ret: dict[str, Any]) -> dict[str, Any]:
        if ret.get("default", ...) is None:
            del ret["default"]  # null stands for what is not there
        assert plugin.resolver is not None
        schema = {**field.metadata.get("schema", {})}
        said: dict[str, Any] = plugin.resolver.resolve_schema_dict(schema)  # type: ignore[no-untyped-call]
        return said if isinstance(field.parent, Texts) or not field.allow_none else _or_null(said)

    plugin = MarshmallowPlugin(schema_name_resolver=lambda schema: _class_of(schema).__name__)
    spec = APISpec("Runwait", __version__, "3.1.0", info={"description": ABOUT}, plugins=[plugin])
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(schema_of)  # type: ignore[no-untyped-call]
    spec.components.parameter("X-Request-ID", "header", _REQUEST_ID)
    for status, about in REFUSALS.items():
        refusal = _content(Answer(about, Error, headers=_HEADERS.get(status, {})))
        spec.components.response(status.phrase.replace(" ", ""), refusal)
    for rule in app.url_map.iter_rules():
        declared = declared_by(app.view_functions[rule.endpoint])
        if declared is not None:
            spec.path(
                re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule),
                operations={
                    method.lower(): _operation(app, rule, declared)
                    for method in sorted((rule.methods or set()) - {"HEAD"})
                },
            )
    made: dict[str, Any] = spec.to_dict()
    if known := app.extensions.get("openapi.guard"):
        schemes = known.get("securitySchemes") or {}
        made["components"]["securitySchemes"] = schemes
        made["security"] = known.get("security") or [{name: []} for name in schemes]
    if (own := app.extensions.get("own_app")) is not None:
        _add_own(made, own)
    return made


def _add_own(made: dict[str, Any], own: own_routes.App) -> None:
    """Add the user's own routes, as far as the app says what it has. What it calls its components
    and operations is told from ours."""
    try:
        text = dumps(own_routes.described(own)).decode()
        said = json.loads(re.sub(r'("#/components/\w+/)', r"\1own_", text))
    except Exception:
        log.warning("http.app does not say what it has", exc_info=True)
        return
    for kind, parts in said.get("components", {}).items():
        if kind != "securitySchemes":
            named = {f"own_{name}": part for name, part in parts.items()}
            made["components"].setdefault(kind, {}).update(named)
    for path, operations in said.get("paths", {}).items():
        for each in operations.values() if isinstance(operations, dict) else ():
            if isinstance(each, dict):
                each.pop("security", None)
                each["tags"] = ["own"]
                if "operationId" in each:
                    each["operationId"] = f"own_{each['operationId']}"
        made["paths"].setdefault(path, operations)


def _operation(app: Flask, rule: Rule, declared: Operation) -> dict[str, Any]:
    """An operation as apispec takes it."""
    about = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
    summary, _, more = about.partition("\n\n")
    parameters: list[Any] = [_path_parameter(name) for name in sorted(rule.arguments)]
    for place, texts in (("query", declared.query), ("header", declared.headers)):
        if texts is not None:
            parameters.append({"in": place, "schema": texts})
    said: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": " ".join(summary.split()),
        "parameters": [*parameters, "X-Request-ID"],
        "responses": {},
    }
    for each in declared.gives:
        given = _content(each)
        # The same status may have answers of several types.
        first = said["responses"].setdefault(str(int(each.status)), given)
        first.get("content", {}).update(given.get("content", {}))
    if more:
        said["description"] = more
    body = declared.body
    if body is not None:
        content: dict[str, Any] = {"schema": body.schema if isinstance(body, Batch) else body}
        if body.example is not None:
            content["example"] = body.example
        said["requestBody"] = {"required": True, "content": {"application/json": content}}
    refusals = _refusals(rule, declared)
    if "openapi.guard" in app.extensions:
        if rule.rule == "/ready" or not declared.stored:
            said["security"] = []  # everybody may ask
        else:
            refusals += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN]
    for status in refusals:
        said["responses"].setdefault(str(int(status)), status.phrase.replace(" ", ""))
    return said


def _refusals(rule: Rule, declared: Operation) -> list[HTTPStatus]:
    """The statuses of what may be answered if the call is not done."""
    found = set(declared.refuses)
    if declared.body is not None:
        found |= {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    if declared.stored:
        found.add(HTTPStatus.SERVICE_UNAVAILABLE)
    if rule.arguments or declared.body or declared.query or declared.headers:
        found.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    return [HTTPStatus(each) for each in sorted(found)]


def _path_parameter(name: str) -> dict[str, Any]:
    about, schema, example = IDS[name]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": about,
        "schema": {**schema, "examples": [example]},
    }


def _content(given: Answer) -> dict[str, Any]:
    said: dict[str, Any] = {"description": given.about}
    if given.schema is not None:
        said["content"] = {given.mimetype: {"schema": given.schema}}
    if given.headers:
        said["headers"] = {
            name: {"description": about, "schema": fields.STRING}
            for name, about in given.headers.items()
        }
    return said


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, or null."""
    if "enum" in schema:
        return {**schema, "type": ["string", "null"], "enum": [*schema["enum"], None]}
    if schema.get("type", "null") != "null" and isinstance(schema["type"], str):
        return {**schema, "type": [schema["type"], "null"]}
    if "anyOf" in schema and {"type": "null"} not in schema["anyOf"]:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return schema


def _class_of(schema: Any) -> type:
    return schema if isinstance(schema, type) else type(schema)
