"""/threads/{thread_id}/state and /threads/{thread_id}/history."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, request

from runwait.api import fields
from runwait.api.answers import answer
from runwait.api.request import json_body, query_flag, query_integer
from runwait.api.schemas import Body, CheckpointBody
from runwait.graphs.assistants import is_uuid
from runwait.threads.states import LATEST, At, ThreadStates

DEFAULT_LIMIT = 10
MOST = 1000

blueprint = Blueprint("states", __name__)


class StateBody(Body):
    """POST /threads/{thread_id}/state/checkpoint."""

    checkpoint = fields.Inner(CheckpointBody, required=True)
    subgraphs = fields.boolean()


class UpdateBody(Body):
    """POST /threads/{thread_id}/state."""

    values = fields.json()
    as_node = fields.text()
    checkpoint = fields.Inner(CheckpointBody)
    checkpoint_id = fields.uuid()


class MetadataBody(Body):
    """PATCH /threads/{thread_id}/state."""

    metadata = fields.json_object(required=True)


class HistoryBody(Body):
    """POST /threads/{thread_id}/history."""

    limit = fields.integer(1, MOST)
    before = fields.Strict(
        "a checkpoint's id, or an object with its checkpoint_id",
        lambda value: is_uuid(_checkpoint_id(value)),
        convert=lambda value: _checkpoint_id(value).lower(),
    )
    metadata = fields.filter_object()
    checkpoint = fields.Inner(CheckpointBody)


_STATE_BODY, _UPDATE_BODY, _HISTORY_BODY = StateBody(), UpdateBody(), HistoryBody()
_METADATA_BODY = MetadataBody()


@blueprint.get("/threads/<thread_id>/state")
def get(thread_id: str) -> Response:
    """The thread's latest state."""
    return answer(_states().get(thread_id, subgraphs=query_flag("subgraphs")))


@blueprint.get("/threads/<thread_id>/state/<checkpoint_id>")
def get_of(thread_id: str, checkpoint_id: str) -> Response:
    """The state of a checkpoint."""
    at = At(checkpoint_id=checkpoint_id)
    return answer(_states().get(thread_id, at, subgraphs=query_flag("subgraphs")))


@blueprint.post("/threads/<thread_id>/state/checkpoint")
def get_at(thread_id: str) -> Response:
    """The state of a checkpoint in any namespace."""
    body = _STATE_BODY.of(json_body())
    subgraphs = body.get("subgraphs", False)
    return answer(_states().get(thread_id, _at(body), subgraphs=subgraphs))


@blueprint.post("/threads/<thread_id>/state")
def update(thread_id: str) -> Response:
    """Change the thread's state; answered with its new checkpoint."""
    body = _UPDATE_BODY.of(json_body())
    values, as_node = body.get("values"), body.get("as_node")
    return answer(_states().update(thread_id, values, as_node, _at(body)))


@blueprint.patch("/threads/<thread_id>/state")
def annotate(thread_id: str) -> Response:
    """Lay metadata over that of the thread's latest state; answered with the state."""
    _states().annotate(thread_id, _METADATA_BODY.of(json_body())["metadata"])
    return answer(_states().get(thread_id))


@blueprint.get("/threads/<thread_id>/history")
def history(thread_id: str) -> Response:
    """The thread's states, newest first."""
    given: dict[str, Any] = {"limit": query_integer("limit", DEFAULT_LIMIT, 1, MOST)}
    if "before" in request.args:
        given["before"] = request.args["before"]
    return answer(_states().history(thread_id, **_history(given)))


@blueprint.post("/threads/<thread_id>/history")
def search_history(thread_id: str) -> Response:
    """The thread's states, newest first, of any namespace."""
    return answer(_states().history(thread_id, **_history(json_body())))


def _history(given: Any) -> dict[str, Any]:
    body = _HISTORY_BODY.of(given)
    return {
        "limit": body.get("limit", DEFAULT_LIMIT),
        "before": body.get("before"),
        "metadata": body.get("metadata"),
        "at": _at(body),
    }


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


def _states() -> ThreadStates:
    states: ThreadStates = current_app.extensions["runwait"].service.states
    return states
