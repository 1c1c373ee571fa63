"""/threads and /threads/{thread_id}."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, current_app, request
from marshmallow import fields as marshmallow_fields
from marshmallow.validate import Equal

from runwait.api import fields
from runwait.api.answers import answer, page
from runwait.api.request import json_body
from runwait.api.schemas import Body, CommandBody
from runwait.storage.threads import SORTS, STATUSES, ThreadQuery
from runwait.threads.threads import FIELDS, PATH, Threads

MOST = 1000
MOST_OFFSET = 2**31 - 1
MOST_PATHS = 10
MOST_IN_PATH = 1000
# In a superstep.
MOST_UPDATES = 100
# A hundred years: more would be beyond what a date can be.
MOST_MINUTES = 100 * 365 * 24 * 60

blueprint = Blueprint("threads", __name__)


def _is_life(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= MOST_MINUTES


def _ttl(**options: Any) -> fields.Strict:
    """How long a thread lives without use: minutes, bare or in an object; ms come out."""

    def minutes(value: Any) -> Any:
        return value.get("ttl") if isinstance(value, dict) else value

    return fields.Strict(
        f"a number of minutes above 0 and up to {MOST_MINUTES}, or an object with such a ttl and, "
        "if anything, the strategy delete",
        lambda value: (
            _is_life(minutes(value))
            and (not isinstance(value, dict) or value.get("strategy", "delete") == "delete")
        ),
        convert=lambda value: max(1, round(minutes(value) * 60_000)),
        **options,
    )


class _ListOf(marshmallow_fields.List[Any]):
    """A list of objects, so many at most."""

    def __init__(self, schema: type[Body], what: str, least: int, most: int, **options: Any):
        text = f"must be a list of {what}"
        if least:
            text += f", at least {least}"
        messages: dict[str, Any] = {"required": "is required", "null": text, "invalid": text}
        messages["bound"] = f"must have at most {most} elements"
        super().__init__(fields.Inner(schema), error_messages=messages, **options)
        self._least, self._most = least, most

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> list[Any]:
        if isinstance(value, list) and len(value) < self._least:
            raise self.make_error("invalid")
        # Before each of them is looked at.
        if isinstance(value, list) and len(value) > self._most:
            raise self.make_error("bound")
        return super()._deserialize(value, *args, **options)


class SuperstepCommandBody(CommandBody):
    """An update's `command`."""

    resume = fields.json(validate=Equal(None, error="must be null: nothing waits for an answer"))


class SuperstepUpdateBody(Body):
    """One of a superstep's `updates`."""

    values = fields.json()
    command = fields.Inner(SuperstepCommandBody, "an object or null", allow_none=True)
    as_node = fields.text(required=True)


class SuperstepBody(Body):
    """One of `supersteps`."""

    updates = _ListOf(SuperstepUpdateBody, "updates", 1, MOST_UPDATES, required=True)


class ThreadBody(Body):
    """POST /threads."""

    thread_id = fields.uuid()
    metadata = fields.json_object()
    if_exists = fields.one_of(["raise", "do_nothing"])
    ttl = _ttl()
    supersteps = _ListOf(SuperstepBody, "supersteps", 0, fields.MOST)


class PatchBody(Body):
    """PATCH /threads/{thread_id}."""

    metadata = fields.json_object()
    ttl = _ttl()


class CountBody(Body):
    """POST /threads/count."""

    ids = fields.uuids()
    metadata = fields.filter_object()
    values = fields.filter_object()
    status = fields.one_of(STATUSES)


class SearchBody(CountBody):
    """POST /threads/search."""

    limit = fields.integer(1, MOST)
    offset = fields.integer(0, MOST_OFFSET)
    sort_by = fields.one_of(SORTS)
    sort_order = fields.one_of(["asc", "desc"])
    select = fields.selection(FIELDS)
    extract = fields.Strict(
        f"an object of up to {MOST_PATHS} paths such as values.messages[-1].content, each under a "
        "name of letters, digits and underscores",
        lambda value: (
            isinstance(value, dict)
            and len(value) <= MOST_PATHS
            and all(map(re.compile(r"[A-Za-z0-9_]+").fullmatch, value))
            and all(isinstance(each, str) and PATH.fullmatch(each) for each in value.values())
        ),
        bound=(
            f"paths of at most {MOST_IN_PATH} characters",
            lambda value: all(len(each) <= MOST_IN_PATH for each in value.values()),
        ),
    )


class PruneBody(Body):
    """POST /threads/prune."""

    thread_ids = fields.uuids(required=True)
    strategy = fields.one_of(["delete", "keep_latest"])


_THREAD_BODY, _PATCH_BODY, _PRUNE_BODY = ThreadBody(), PatchBody(), PruneBody()
_SEARCH_BODY, _COUNT_BODY = SearchBody(), CountBody()


@blueprint.post("/threads")
def create() -> Response:
    """Make a thread."""
    return answer(_threads().create(**_THREAD_BODY.of(json_body())))


@blueprint.get("/threads/<thread_id>")
def get(thread_id: str) -> Response:
    """The thread; with `include=ttl` also how long it lives."""
    ttl = "ttl" in request.args.get("include", "").split(",")
    return answer(_threads().get(thread_id, ttl=ttl))


@blueprint.patch("/threads/<thread_id>")
def patch(thread_id: str) -> Response:
    """Lay metadata over the thread's, and set its life."""
    body = _PATCH_BODY.of(json_body())
    patched = _threads().patch(thread_id, **body, minimal=_wants_nothing())
    return Response(status=204) if patched is None else answer(patched)


@blueprint.delete("/threads/<thread_id>")
def delete(thread_id: str) -> Response:
    """Remove the thread with its runs and checkpoints."""
    _threads().delete(thread_id)
    return Response(status=204)


@blueprint.post("/threads/search")
def search() -> Response:
    """Threads that match."""
    body = _SEARCH_BODY.of(json_body())
    shown = {name: body.pop(name) for name in ("values", "select", "extract") if name in body}
    query = ThreadQuery(**body)
    threads, total, more = _threads().search(query, **shown)
    return page(threads, total, query.offset + query.limit if more else None)


@blueprint.post("/threads/count")
def count() -> Response:
    """How many threads match."""
    body = _COUNT_BODY.of(json_body())
    values = body.pop("values", None)
    return answer(_threads().count(ThreadQuery(**body), values=values))


@blueprint.post("/threads/<thread_id>/copy")
def copy(thread_id: str) -> Response:
    """A new thread that holds what this one does."""
    return answer(_threads().copy(thread_id))


@blueprint.post("/threads/prune")
def prune() -> Response:
    """Remove threads, or all but their latest state."""
    body = _PRUNE_BODY.of(json_body())
    return answer({"pruned_count": _threads().prune(**body)})


def _wants_nothing() -> bool:
    """Whether the client prefers an answer without a body (RFC 7240)."""
    given = ",".join(request.headers.getlist("Prefer")).lower()
    preferences = (each.split(";")[0].replace(" ", "") for each in given.split(","))
    return "return=minimal" in preferences


def _threads() -> Threads:
    threads: Threads = current_app.extensions["runwait"].service.threads
    return threads
