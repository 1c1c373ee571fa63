"""/threads/{thread_id}/state and /threads/{thread_id}/history."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

from flask import Blueprint, Response

from runwait.api import current, fields
from runwait.api.answers import answer
from runwait.api.auth import permit_thread
from runwait.api.operation import Answer, operation
from runwait.api.resources import ThreadState, Updated
from runwait.api.schemas import AN_ID, Body, CheckpointBody, LimitBody, LimitQuery, Texts
from runwait.graphs.assistants import is_uuid
from runwait.threads.states import LATEST, At

blueprint = Blueprint("states", __name__)

SUBGRAPHS = "Whether tasks have the states of their subgraphs."
NOT_FOUND = HTTPStatus.NOT_FOUND
A_STATE = Answer("The state.", ThreadState)
STATES = Answer("The states.", fields.list_of(ThreadState))


def _before(schema: dict[str, Any], **options: Any) -> fields.Strict:
    return fields.Strict(
        "a checkpoint's id, or an object with its checkpoint_id",
        lambda value: is_uuid(_checkpoint_id(value)),
        schema=schema,
        convert=lambda value: _checkpoint_id(value).lower(),
        about="Only states before this checkpoint.",
        **options,
    )


class StateBody(Body):
    """Which state."""

    checkpoint = fields.Inner(CheckpointBody, required=True, about="Its checkpoint.")
    subgraphs = fields.boolean(about=SUBGRAPHS)


class UpdateBody(Body):
    """A change of a state."""

    example: ClassVar[Any] = {"values": {"draft": "Hi"}, "as_node": "write"}

    values = fields.json(about="What is written, as a node writes it.", example={"draft": "Hi"})
    as_node = fields.text(about="As which node; by default the last one.", example="write")
    checkpoint = fields.Inner(CheckpointBody, about="Which state is changed; the latest if none.")
    checkpoint_id = fields.uuid(about="The same, by its id alone.", example=AN_ID)


class MetadataBody(Body):
    """Metadata for a state."""

    metadata = fields.json_object(
        required=True, about="Laid over what it has.", example={"rating": 5}
    )


class HistoryBody(LimitBody):
    """Which states."""

    example: ClassVar[Any] = {"limit": 10}

    before = _before(
        {
            "anyOf": [
                fields.UUID,
                {
                    **fields.OBJECT,
                    "properties": {"checkpoint_id": fields.UUID},
                    "required": ["checkpoint_id"],
                },
            ]
        },
        example={"checkpoint_id": AN_ID},
    )
    metadata = fields.filter_object(
        about="Only states whose metadata contain this.", example={"step": 1}
    )
    checkpoint = fields.Inner(CheckpointBody, about="Of which subgraph, by its namespace.")


class HistoryQuery(LimitQuery):
    """Which states."""

    before = _before(fields.UUID, load_default=None, example=AN_ID)


class StateQuery(Texts):
    """What to show of a state."""

    subgraphs = fields.flag(about=SUBGRAPHS)


@blueprint.get("/threads/<thread_id>/state")
@operation(query=StateQuery(), gives=A_STATE, refuses=[NOT_FOUND])
def get(thread_id: str, subgraphs: bool) -> Response:
    """The thread's latest state."""
    permit_thread("read", thread_id)
    return answer(current.service().states.get(thread_id, subgraphs=subgraphs))


@blueprint.get("/threads/<thread_id>/state/<checkpoint_id>")
@operation(query=StateQuery(), gives=A_STATE, refuses=[NOT_FOUND])
def get_of(thread_id: str, checkpoint_id: str, subgraphs: bool) -> Response:
    """The state of a checkpoint."""
    permit_thread("read", thread_id)
    at = At(checkpoint_id=checkpoint_id)
    return answer(current.service().states.get(thread_id, at, subgraphs=subgraphs))


@blueprint.post("/threads/<thread_id>/state/checkpoint")
@operation(body=StateBody(), gives=A_STATE, refuses=[NOT_FOUND])
def get_at(thread_id: str, body: dict[str, Any]) -> Response:
    """The state of a checkpoint in any namespace."""
    permit_thread("read", thread_id)
    subgraphs = body.get("subgraphs", False)
    return answer(current.service().states.get(thread_id, _at(body), subgraphs=subgraphs))


@blueprint.post("/threads/<thread_id>/state")
@operation(
    body=UpdateBody(),
    gives=Answer("Where the new state is.", Updated),
    refuses=[NOT_FOUND, HTTPStatus.CONFLICT],
)
def update(thread_id: str, body: dict[str, Any]) -> Response:
    """Change the thread's state; answered with its new checkpoint."""
    permit_thread("update", thread_id)
    values, as_node = body.get("values"), body.get("as_node")
    return answer(current.service().states.update(thread_id, values, as_node, _at(body)))


@blueprint.patch("/threads/<thread_id>/state")
@operation(body=MetadataBody(), gives=A_STATE, refuses=[NOT_FOUND, HTTPStatus.CONFLICT])
def annotate(thread_id: str, body: dict[str, Any]) -> Response:
    """Lay metadata over that of the thread's latest state; answered with the state."""
    permit_thread("update", thread_id)
    current.service().states.annotate(thread_id, body["metadata"])
    return answer(current.service().states.get(thread_id))


@blueprint.get("/threads/<thread_id>/history")
@operation(query=HistoryQuery(), gives=STATES, refuses=[NOT_FOUND])
def history(thread_id: str, limit: int, before: str | None) -> Response:
    """The thread's states, newest first."""
    permit_thread("read", thread_id)
    return answer(current.service().states.history(thread_id, limit=limit, before=before))


@blueprint.post("/threads/<thread_id>/history")
@operation(body=HistoryBody(), gives=STATES, refuses=[NOT_FOUND])
def search_history(thread_id: str, body: dict[str, Any]) -> Response:
    """The thread's states, newest first, of any namespace."""
    permit_thread("read", thread_id)
    before, metadata = body.get("before"), body.get("metadata")
    found = current.service().states.history(
        thread_id, limit=body["limit"], before=before, metadata=metadata, at=_at(body)
    )
    return answer(found)


def _at(body: dict[str, Any]) -> At:
    given = body.get("checkpoint") or {}
    # As in a run: the id by itself goes before the one within.
    checkpoint_id = body.get("checkpoint_id") or given.get("checkpoint_id")
    if not given and checkpoint_id is None:
        return LATEST
    return At(
        checkpoint_id=checkpoint_id,
        checkpoint_ns=given.get("checkpoint_ns") or "",
        checkpoint_map=given.get("checkpoint_map"),
    )


def _checkpoint_id(given: Any) -> str:
    """The id in what SDKs send for a checkpoint: the id, a checkpoint, or LangGraph's config."""
    if isinstance(given, dict):
        inner = given.get("configurable", given)
        given = inner.get("checkpoint_id") if isinstance(inner, dict) else None
    return given if isinstance(given, str) else ""
