"""/threads and /threads/{thread_id}."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID

from flask import Blueprint, Response
from marshmallow import fields as marshmallow_fields
from marshmallow.validate import Equal

from runwait.api import current, fields
from runwait.api.answers import answer, page
from runwait.api.auth import authorize, authorize_body, permit_thread, reads
from runwait.api.operation import Answer, operation
from runwait.api.resources import A_COUNT, PAGED, Pruned, Thread
from runwait.api.schemas import AN_ID, Body, CommandBody, PageBody, Texts
from runwait.auth.filters import Filters
from runwait.options.checkpointer import MOST_MINUTES
from runwait.storage.threads import SORTS, STATUSES, ThreadNotFound, ThreadQuery
from runwait.threads.threads import FIELDS, PATH

MOST_PATHS = 10
MOST_IN_PATH = 1000
# In a superstep.
MOST_UPDATES = 100
METADATA = "Anything that is to be known of it; searches find it by that."

MINUTES = {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_MINUTES}
NOT_FOUND = HTTPStatus.NOT_FOUND
GONE = Answer("It is gone.", status=HTTPStatus.NO_CONTENT)

blueprint = Blueprint("threads", __name__)


def _is_life(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= MOST_MINUTES


def _ttl() -> fields.Strict:
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
        schema={
            "anyOf": [
                MINUTES,
                {
                    **fields.OBJECT,
                    "properties": {"ttl": MINUTES, "strategy": {"const": "delete"}},
                    "required": ["ttl"],
                },
            ]
        },
        convert=lambda value: max(1, round(minutes(value) * 60_000)),
        about="How many minutes the thread lives without use.",
        example={"ttl": 43_200},
    )


class _ListOf(marshmallow_fields.List[Any]):
    """A list of objects, so many at most."""

    def __init__(self, schema: type[Body], what: str, least: int, most: int, **options: Any):
        text = f"must be a list of {what}"
        if least:
            text += f", at least {least}"
        messages: dict[str, Any] = {"required": "is required", "null": text, "invalid": text}
        messages["bound"] = f"must have at most {most} elements"
        bounds = {"type": "array", "minItems": least, "maxItems": most}
        options = fields.described(bounds, options)
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
    """What an update's command may have."""

    resume = fields.json(
        validate=Equal(None, error="must be null: nothing waits for an answer"),
        about="Null: nothing waits for an answer.",
        schema={"type": "null"},
    )


class SuperstepUpdateBody(Body):
    """A change of the state, as if a node had made it."""

    values = fields.json(about="What the node wrote.", example={"draft": "Hi"})
    command = fields.Inner(
        SuperstepCommandBody,
        "an object or null",
        allow_none=True,
        about="Where the node went, or what it wrote.",
    )
    as_node = fields.text(required=True, about="The node.", example="write")


class SuperstepBody(Body):
    """Changes of the state that are made together."""

    updates = _ListOf(
        SuperstepUpdateBody, "updates", 1, MOST_UPDATES, required=True, about="The changes."
    )


class ThreadBody(Body):
    """A thread to make."""

    example: ClassVar[Any] = {"metadata": {"user": "ada"}}

    thread_id = fields.uuid(about="Its id; one is made if none is given.", example=AN_ID)
    metadata = fields.json_object(about=METADATA, example={"user": "ada"})
    if_exists = fields.one_of(
        ["raise", "do_nothing"],
        about="If there is one of this id: 409 (raise, the default), or answer with it.",
    )
    ttl = _ttl()
    supersteps = _ListOf(
        SuperstepBody,
        "supersteps",
        0,
        fields.MOST,
        about="What its state is made of, step by step; needs metadata.graph_id.",
    )


class PatchBody(Body):
    """What to change of a thread."""

    metadata = fields.json_object(about="Laid over what it has.", example={"user": "ada"})
    ttl = _ttl()


class CountBody(Body):
    """Which threads to count."""

    example: ClassVar[Any] = {"metadata": {"user": "ada"}}

    ids = fields.uuids(about="Only those of these ids.", example=[AN_ID])
    metadata = fields.filter_object(
        about="Only those whose metadata contain this.", example={"user": "ada"}
    )
    values = fields.filter_object(
        about="Only those whose values contain this.", example={"topic": "cats"}
    )
    status = fields.one_of(STATUSES, about="Only those of this status.")


class SearchBody(PageBody, CountBody):
    """Which threads to find."""

    sort_by = fields.one_of(SORTS, about="What they are sorted by.")
    sort_order = fields.one_of(["asc", "desc"], about="Rising, or falling (the default).")
    select = fields.selection(FIELDS, about="What of each; all if it is left out.")
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
        schema={
            **fields.OBJECT,
            "maxProperties": MOST_PATHS,
            "propertyNames": {"pattern": "^[A-Za-z0-9_]+$"},
            "additionalProperties": {
                **fields.STRING,
                "maxLength": MOST_IN_PATH,
                "pattern": f"^(?:{PATH.pattern})$",
            },
        },
        about="What to take out of each thread: names, and paths such as values.messages[-1].",
        example={"last": "values.messages[-1].content"},
    )


class PruneBody(Body):
    """Threads to prune."""

    thread_ids = fields.uuids(required=True, about="The threads.", example=[AN_ID])
    strategy = fields.one_of(
        ["delete", "keep_latest"],
        about="delete (default): the threads; keep_latest: all but their latest states.",
    )


class ThreadQuerystring(Texts):
    """What to show of a thread."""

    include = fields.Strict(
        "words",
        lambda value: True,
        schema=fields.STRING,
        convert=lambda value: value.split(","),
        load_default=list,
        about="ttl: how long it lives, too.",
        example="ttl",
    )


class PreferHeader(Texts):
    """What the client prefers to have (RFC 7240)."""

    minimal = fields.Strict(
        "preferences",
        lambda values: True,
        schema=fields.STRING,
        convert=lambda values: _wants_nothing(",".join(values)),
        repeated=True,
        data_key="Prefer",
        load_default=None,
        about="return=minimal: an answer without a body.",
        example="return=minimal",
    )


@blueprint.post("/threads")
@operation(
    body=ThreadBody(),
    gives=Answer("The thread.", Thread),
    refuses=[NOT_FOUND, HTTPStatus.CONFLICT],
)
def create(body: dict[str, Any]) -> Response:
    """Make a thread."""
    given = {"thread_id": UUID(body["thread_id"])} if "thread_id" in body else {}
    filters = authorize_body("threads", "create", body, ["metadata", "if_exists"], **given)
    return answer(
        current.service().threads.create(**body, is_there=reads("threads", filters, **given))
    )


@blueprint.get("/threads/<thread_id>")
@operation(query=ThreadQuerystring(), gives=Answer("The thread.", Thread), refuses=[NOT_FOUND])
def get(thread_id: str, include: list[str]) -> Response:
    """The thread; with `include=ttl` also how long it lives."""
    permit_thread("read", thread_id)
    return answer(current.service().threads.get(thread_id, ttl="ttl" in include))


@blueprint.patch("/threads/<thread_id>")
@operation(
    body=PatchBody(),
    headers=PreferHeader(),
    gives=(
        Answer("The thread.", Thread),
        Answer("With `Prefer: return=minimal`.", status=HTTPStatus.NO_CONTENT),
    ),
    refuses=[NOT_FOUND, HTTPStatus.CONFLICT],
)
def patch(thread_id: str, body: dict[str, Any], minimal: bool | None) -> Response:
    """Lay metadata over the thread's, and set its life."""
    given = {"thread_id": UUID(thread_id)}
    filters = authorize_body("threads", "update", body, ["metadata"], **given)
    if filters is not None:
        current.service().require_thread(thread_id, filters)
    patched = current.service().threads.patch(thread_id, **body, minimal=bool(minimal))
    return Response(status=204) if patched is None else answer(patched)


@blueprint.delete("/threads/<thread_id>")
@operation(gives=GONE, refuses=[NOT_FOUND])
def delete(thread_id: str) -> Response:
    """Remove the thread with its runs and checkpoints."""
    permit_thread("delete", thread_id)
    current.service().threads.delete(thread_id)
    return Response(status=204)


@blueprint.post("/threads/search")
@operation(body=SearchBody(), gives=Answer("The threads.", fields.list_of(Thread), headers=PAGED))
def search(body: dict[str, Any]) -> Response:
    """Threads that match."""
    permitted = _permitted(body)
    shown = {name: body.pop(name) for name in ("values", "select", "extract") if name in body}
    query = ThreadQuery(**body, permitted=permitted)
    threads, total, more = current.service().threads.search(query, **shown)
    return page(threads, total, query.offset + query.limit if more else None)


@blueprint.post("/threads/count")
@operation(body=CountBody(), gives=A_COUNT)
def count(body: dict[str, Any]) -> Response:
    """How many threads match."""
    permitted = _permitted(body)
    values = body.pop("values", None)
    return answer(
        current.service().threads.count(ThreadQuery(**body, permitted=permitted), values=values)
    )


@blueprint.post("/threads/<thread_id>/copy")
@operation(gives=Answer("The new thread.", Thread), refuses=[NOT_FOUND, HTTPStatus.CONFLICT])
def copy(thread_id: str) -> Response:
    """A new thread that holds what this one does."""
    permit_thread("read", thread_id)
    made: dict[str, Any] = {"metadata": {}}
    authorize("threads", "create", made)
    return answer(current.service().threads.copy(thread_id, made["metadata"]))


@blueprint.post("/threads/prune")
@operation(body=PruneBody(), gives=Answer("How many were pruned.", Pruned))
def prune(body: dict[str, Any]) -> Response:
    """Remove threads, or all but their latest state."""
    body["thread_ids"] = [each for each in body["thread_ids"] if _may_delete(each)]
    return answer({"pruned_count": current.service().threads.prune(**body)})


def _permitted(body: dict[str, Any]) -> Filters:
    """What the metadata of the threads that are searched for must contain besides."""
    names = ["metadata", "values", "status", "ids", "limit", "offset"]
    return authorize_body("threads", "search", body, names) or {}


def _may_delete(thread_id: str) -> bool:
    try:
        permit_thread("delete", thread_id)
    except ThreadNotFound:
        return False
    return True


def _wants_nothing(preferences: str) -> bool:
    """Whether an answer without a body is preferred."""
    words = (each.split(";")[0].replace(" ", "") for each in preferences.lower().split(","))
    return "return=minimal" in words
