"""/assistants: graphs under ids and with settings of their own (contract section 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID

from flask import Blueprint, Response

from runwait.api import current, fields
from runwait.api.answers import answer, page
from runwait.api.auth import (
    authorize,
    authorize_body,
    permit_assistant,
    permitted_assistants,
    reads,
)
from runwait.api.operation import Answer, operation
from runwait.api.resources import A_COUNT, PAGED, Drawing, GraphSchemas
from runwait.api.resources import Assistant as AssistantAnswer
from runwait.api.schemas import AN_ID, Body, ConfigBody, PageBody, Texts
from runwait.assistants.assistants import AssistantRequest
from runwait.graphs.assistants import Assistant
from runwait.storage.assistants import AssistantQuery

# Beyond any number of versions, and below where Redis's numbers end.
_HIGHEST = 10**9

FIELDS = tuple(Assistant("", "").public())

blueprint = Blueprint("assistants", __name__)


class AssistantBody(Body):
    """What to change of an assistant."""

    example: ClassVar[Any] = {"context": {"name": "Ada"}, "name": "Polite chat"}

    graph_id = fields.text(about="The name of its graph.", example="chat")
    config = fields.Inner(ConfigBody, about="LangGraph's config for its runs.")
    context = fields.json_object(
        about="The static context of its runs; not together with config.configurable.",
        example={"name": "Ada"},
    )
    metadata = fields.json_object(
        about="Anything that is to be known of it; searches find it by that.",
        example={"team": "support"},
    )
    # They are sorted by name and id, with NUL between.
    name = fields.Strict(
        "a string without NUL",
        lambda value: isinstance(value, str) and "\0" not in value,
        schema={**fields.STRING, "pattern": "^[^\\x00]*$"},
        about="Its name.",
        example="Polite chat",
    )
    description = fields.text(about="What it is for.", example="Answers questions")


class CreateAssistantBody(AssistantBody):
    """An assistant to make."""

    example: ClassVar[Any] = {"graph_id": "chat", **AssistantBody.example}

    graph_id = fields.text(required=True, about="The name of its graph.", example="chat")
    assistant_id = fields.uuid(about="Its id; one is made if none is given.", example=AN_ID)
    if_exists = fields.one_of(
        ["raise", "do_nothing"],
        about="If there is one of this id: 409 (raise, the default), or answer with it.",
    )


class CountAssistantsBody(Body):
    """Which assistants to count."""

    metadata = fields.filter_object(
        about="Only those whose metadata contain this.", example={"team": "support"}
    )
    graph_id = fields.text(about="Only those of this graph.", example="chat")
    name = fields.text(about="Only those that have this in their name.", example="polite")


class SearchAssistantsBody(PageBody, CountAssistantsBody):
    """Which assistants to find."""

    sort_by = fields.one_of(
        ["assistant_id", "graph_id", "name", "created_at", "updated_at"],
        about="What they are sorted by.",
    )
    sort_order = fields.one_of(["asc", "desc"], about="Rising, or falling (the default).")
    select = fields.selection(
        FIELDS, load_default=list, about="What of each; all if it is left out.", example=["name"]
    )


class VersionsBody(PageBody):
    """Which versions."""

    metadata = fields.filter_object(
        load_default=dict, about="Only those whose metadata contain this.", example={"tested": True}
    )


class LatestBody(Body):
    """Which version."""

    version = fields.integer(0, _HIGHEST, required=True, about="Its number.", example=1)


class DeleteAssistantQuery(Texts):
    """What goes with the assistant."""

    delete_threads = fields.flag(about="Delete its threads too.")


class GraphQuery(Texts):
    """How to draw a graph."""

    xray = fields.Strict(
        "true, false, or an integer from 1 to 999",
        lambda value: (
            value in ("true", "false") or re.fullmatch(r"0*[1-9][0-9]{0,2}", value) is not None
        ),
        schema={"anyOf": [{"type": "boolean"}, fields.range_of("integer", 1, 999)]},
        convert=lambda value: value == "true" if value in ("true", "false") else int(value),
        load_default=False,
        about="Whether subgraphs are drawn in the place of their nodes; a number says how deep.",
        example=1,
    )


class SubgraphsQuery(Texts):
    """Which subgraphs."""

    recurse = fields.flag(about="Those in subgraphs too.")


# What handlers are shown of an assistant that is made or changed, and may change.
_SHOWN = ("graph_id", "config", "context", "metadata", "name", "description")
NOT_FOUND = HTTPStatus.NOT_FOUND
AN_ASSISTANT = Answer("The assistant.", AssistantAnswer)
CHANGES = (NOT_FOUND, HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST)
LOOKS = (NOT_FOUND, HTTPStatus.BAD_REQUEST)
SUBGRAPHS = Answer(
    "The schemas of each, under its namespace.",
    {**fields.OBJECT, "additionalProperties": fields.OBJECT},
)


@blueprint.post("/assistants")
@operation(body=CreateAssistantBody(), gives=AN_ASSISTANT, refuses=[NOT_FOUND, HTTPStatus.CONFLICT])
def create(body: dict[str, Any]) -> Response:
    """Make an assistant; answered with it."""
    which = {name: body.pop(name) for name in ("assistant_id", "if_exists") if name in body}
    given = {"assistant_id": UUID(which["assistant_id"])} if "assistant_id" in which else {}
    filters = authorize_body("assistants", "create", body, _SHOWN, **given)
    is_there = reads("assistants", filters, **given)
    made = current.service().assistants.create(AssistantRequest(**body), **which, is_there=is_there)
    return answer(made.public())


@blueprint.post("/assistants/search")
@operation(
    body=SearchAssistantsBody(),
    gives=Answer("The assistants.", fields.list_of(AssistantAnswer), headers=PAGED),
    refuses=[NOT_FOUND],
)
def search(body: dict[str, Any]) -> Response:
    """A page of the assistants that match."""
    permitted = permitted_assistants(body)
    limit, offset, select = (body.pop(name) for name in ("limit", "offset", "select"))
    query = AssistantQuery(**body, permitted=permitted)
    found, total, more = current.service().assistants.search(query, limit, offset)
    return page(
        [_selected(each, select) for each in found], total, offset + limit if more else None
    )


@blueprint.post("/assistants/count")
@operation(body=CountAssistantsBody(), gives=A_COUNT, refuses=[NOT_FOUND])
def count(body: dict[str, Any]) -> Response:
    """How many assistants match."""
    permitted = permitted_assistants(body)
    return answer(current.service().assistants.count(AssistantQuery(**body, permitted=permitted)))


@blueprint.get("/assistants/<assistant_id>")
@operation(gives=AN_ASSISTANT, refuses=[NOT_FOUND])
def get(assistant_id: str) -> Response:
    """The assistant."""
    permit_assistant("read", assistant_id)
    return answer(current.service().assistants.get(assistant_id).public())


@blueprint.patch("/assistants/<assistant_id>")
@operation(body=AssistantBody(), gives=AN_ASSISTANT, refuses=CHANGES)
def patch(assistant_id: str, body: dict[str, Any]) -> Response:
    """Change the assistant, by a new version; answered with it."""
    permit_assistant("update", assistant_id, body, _SHOWN)
    return answer(
        current.service().assistants.patch(assistant_id, AssistantRequest(**body)).public()
    )


@blueprint.delete("/assistants/<assistant_id>")
@operation(
    query=DeleteAssistantQuery(),
    gives=Answer("It is gone.", status=HTTPStatus.NO_CONTENT),
    refuses=CHANGES,
)
def delete(assistant_id: str, delete_threads: bool) -> Response:
    """Delete the assistant."""
    permit_assistant("delete", assistant_id)
    filters = authorize("threads", "delete", {}) if delete_threads else None
    current.service().assistants.delete(
        assistant_id, delete_threads=delete_threads, filters=filters
    )
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post("/assistants/<assistant_id>/versions")
@operation(
    body=VersionsBody(),
    gives=Answer("The versions.", fields.list_of(AssistantAnswer)),
    refuses=[NOT_FOUND],
)
def versions(assistant_id: str, body: dict[str, Any]) -> Response:
    """The assistant's versions, newest first."""
    permit_assistant("read", assistant_id)
    found = current.service().assistants.versions(assistant_id, **body)
    # A version is never changed.
    shown = [name for name in FIELDS if name != "updated_at"]
    return answer([_selected(each, shown) for each in found])


@blueprint.post("/assistants/<assistant_id>/latest")
@operation(body=LatestBody(), gives=AN_ASSISTANT, refuses=CHANGES)
def set_latest(assistant_id: str, body: dict[str, Any]) -> Response:
    """Make a version the current one; answered with the assistant."""
    permit_assistant("update", assistant_id, body, ["version"])
    return answer(current.service().assistants.set_latest(assistant_id, **body).public())


@blueprint.get("/assistants/<assistant_id>/schemas")
@operation(gives=Answer("The schemas.", GraphSchemas), refuses=LOOKS)
def schemas(assistant_id: str) -> Response:
    """JSON schemas of the assistant's graph."""
    permit_assistant("read", assistant_id)
    return answer(current.service().assistants.schemas(assistant_id))


@blueprint.get("/assistants/<assistant_id>/graph")
@operation(query=GraphQuery(), gives=Answer("The drawing.", Drawing), refuses=LOOKS)
def graph(assistant_id: str, xray: int | bool) -> Response:
    """The nodes and edges of the assistant's graph."""
    permit_assistant("read", assistant_id)
    return answer(current.service().assistants.graph(assistant_id, xray))


@blueprint.get("/assistants/<assistant_id>/subgraphs")
@operation(query=SubgraphsQuery(), gives=SUBGRAPHS, refuses=LOOKS)
def subgraphs(assistant_id: str, recurse: bool) -> Response:
    """The schemas of the graphs in the assistant's graph, by namespace."""
    permit_assistant("read", assistant_id)
    return answer(current.service().assistants.subgraphs(assistant_id, recurse=recurse))


@blueprint.get("/assistants/<assistant_id>/subgraphs/<namespace>")
@operation(query=SubgraphsQuery(), gives=SUBGRAPHS, refuses=LOOKS)
def subgraph(assistant_id: str, namespace: str, recurse: bool) -> Response:
    """The same, of one namespace."""
    permit_assistant("read", assistant_id)
    return answer(current.service().assistants.subgraphs(assistant_id, namespace, recurse=recurse))


def _selected(assistant: Assistant, names: Sequence[str]) -> dict[str, Any]:
    shown = assistant.public()
    return {name: shown[name] for name in names} if names else shown
