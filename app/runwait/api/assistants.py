"""/assistants: graphs under ids and with settings of their own (contract section 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, current_app, request

from runwait.api import fields
from runwait.api.answers import answer, page
from runwait.api.errors import InvalidRequest, problems
from runwait.api.request import json_body, query_flag
from runwait.api.schemas import Body, ConfigBody
from runwait.assistants.assistants import AssistantRequest, Assistants
from runwait.graphs.assistants import Assistant
from runwait.storage.assistants import AssistantQuery

DEFAULT_LIMIT = 10
MOST = 1000
# Beyond any number of assistants or versions, and below where Redis's numbers end.
_HIGHEST = 10**9

FIELDS = tuple(Assistant("", "").public())

blueprint = Blueprint("assistants", __name__)


class _AssistantBody(Body):
    """PATCH /assistants/{assistant_id}."""

    graph_id = fields.text()
    config = fields.Inner(ConfigBody)
    context = fields.json_object()
    metadata = fields.json_object()
    # They are sorted by name and id, with NUL between.
    name = fields.Strict(
        "a string without NUL", lambda value: isinstance(value, str) and "\0" not in value
    )
    description = fields.text()


class _CreateBody(_AssistantBody):
    """POST /assistants."""

    graph_id = fields.text(required=True)
    assistant_id = fields.uuid()
    if_exists = fields.one_of(["raise", "do_nothing"])


class _CountBody(Body):
    """POST /assistants/count."""

    metadata = fields.filter_object()
    graph_id = fields.text()
    name = fields.text()


class _SearchBody(_CountBody):
    """POST /assistants/search."""

    limit = fields.integer(1, MOST, load_default=DEFAULT_LIMIT)
    offset = fields.integer(0, _HIGHEST, load_default=0)
    sort_by = fields.one_of(["assistant_id", "graph_id", "name", "created_at", "updated_at"])
    sort_order = fields.one_of(["asc", "desc"])
    select = fields.selection(FIELDS, load_default=())


class _VersionsBody(Body):
    """POST /assistants/{assistant_id}/versions."""

    metadata = fields.filter_object(load_default={})
    limit = fields.integer(1, MOST, load_default=DEFAULT_LIMIT)
    offset = fields.integer(0, _HIGHEST, load_default=0)


class _LatestBody(Body):
    """POST /assistants/{assistant_id}/latest."""

    version = fields.integer(0, _HIGHEST, required=True)


_CREATE, _PATCH, _SEARCH, _COUNT = _CreateBody(), _AssistantBody(), _SearchBody(), _CountBody()
_VERSIONS, _LATEST = _VersionsBody(), _LatestBody()


@blueprint.post("/assistants")
def create() -> Response:
    """Make an assistant; answered with it."""
    body = _CREATE.of(json_body())
    which = {name: body.pop(name) for name in ("assistant_id", "if_exists") if name in body}
    return answer(_assistants().create(AssistantRequest(**body), **which).public())


@blueprint.post("/assistants/search")
def search() -> Response:
    """A page of the assistants that match."""
    body = _SEARCH.of(json_body())
    limit, offset, select = (body.pop(name) for name in ("limit", "offset", "select"))
    found, total, more = _assistants().search(AssistantQuery(**body), limit, offset)
    return page(
        [_selected(each, select) for each in found], total, offset + limit if more else None
    )


@blueprint.post("/assistants/count")
def count() -> Response:
    """How many assistants match."""
    return answer(_assistants().count(AssistantQuery(**_COUNT.of(json_body()))))


@blueprint.get("/assistants/<assistant_id>")
def get(assistant_id: str) -> Response:
    """The assistant."""
    return answer(_assistants().get(assistant_id).public())


@blueprint.patch("/assistants/<assistant_id>")
def patch(assistant_id: str) -> Response:
    """Change the assistant, by a new version; answered with it."""
    asked = AssistantRequest(**_PATCH.of(json_body()))
    return answer(_assistants().patch(assistant_id, asked).public())


@blueprint.delete("/assistants/<assistant_id>")
def delete(assistant_id: str) -> Response:
    """Delete the assistant."""
    _assistants().delete(assistant_id, delete_threads=query_flag("delete_threads"))
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post("/assistants/<assistant_id>/versions")
def versions(assistant_id: str) -> Response:
    """The assistant's versions, newest first."""
    found = _assistants().versions(assistant_id, **_VERSIONS.of(json_body()))
    # A version is never changed.
    shown = [name for name in FIELDS if name != "updated_at"]
    return answer([_selected(each, shown) for each in found])


@blueprint.post("/assistants/<assistant_id>/latest")
def set_latest(assistant_id: str) -> Response:
    """Make a version the current one; answered with the assistant."""
    body = _LATEST.of(json_body())
    return answer(_assistants().set_latest(assistant_id, **body).public())


@blueprint.get("/assistants/<assistant_id>/schemas")
def schemas(assistant_id: str) -> Response:
    """JSON schemas of the assistant's graph."""
    return answer(_assistants().schemas(assistant_id))


@blueprint.get("/assistants/<assistant_id>/graph")
def graph(assistant_id: str) -> Response:
    """The nodes and edges of the assistant's graph."""
    return answer(_assistants().graph(assistant_id, _xray()))


@blueprint.get("/assistants/<assistant_id>/subgraphs")
def subgraphs(assistant_id: str) -> Response:
    """The schemas of the graphs in the assistant's graph, by namespace."""
    return answer(_assistants().subgraphs(assistant_id, recurse=query_flag("recurse")))


@blueprint.get("/assistants/<assistant_id>/subgraphs/<namespace>")
def subgraph(assistant_id: str, namespace: str) -> Response:
    """The same, of one namespace."""
    recurse = query_flag("recurse")
    return answer(_assistants().subgraphs(assistant_id, namespace, recurse=recurse))


def _xray() -> int | bool:
    given = request.args.get("xray", "false")
    if given in ("true", "false"):
        return given == "true"
    if re.fullmatch(r"0*[1-9][0-9]{0,2}", given):
        return int(given)
    raise InvalidRequest(problems([("xray", "must be true, false, or an integer from 1 to 999")]))


def _selected(assistant: Assistant, names: Sequence[str]) -> dict[str, Any]:
    shown = assistant.public()
    return {name: shown[name] for name in names} if names else shown


def _assistants() -> Assistants:
    assistants: Assistants = current_app.extensions["runwait"].service.assistants
    return assistants
