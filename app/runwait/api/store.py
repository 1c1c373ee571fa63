"""/store: what graphs remember beyond their threads."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import quote

from flask import Blueprint, Response
from marshmallow import ValidationError, validates_schema

from runwait.api import current, fields
from runwait.api.answers import answer
from runwait.api.auth import authorize
from runwait.api.errors import InvalidRequest
from runwait.api.operation import Answer, operation
from runwait.api.resources import FoundItems, Item, Namespaces
from runwait.api.schemas import Body, Texts
from runwait.storage.store import MAX_TTL_MINUTES

# What GET can have: gunicorn takes a request line of 4,094 bytes, and there is more in it.
MOST_ENCODED = 3900

blueprint = Blueprint("store", __name__)

# LangGraph keeps this first label for itself.
_RESERVED = "langgraph"
# An item is listed under each prefix of its namespace.
MOST_LABELS = 100
NAMESPACE = "The labels under which it is."
KEY = "Its key in the namespace."


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "." not in value and "\0" not in value


# A namespace as text: its labels, joined by periods.
_LABELS = r"^[^.\x00]+(\.[^.\x00]+)*$"


def _namespace(
    must: str,
    allowed: Callable[[list[str]], bool] = lambda labels: True,
    parse: Callable[[str], Any] | None = None,
    **options: Any,
) -> fields.Strict:
    """A list of labels, as a tuple; `parse` makes the list, where a text is given for it."""
    label = {**fields.STRING, "pattern": r"^[^.\x00]+$"}
    least = {"minItems": 1} if allowed([]) is False else {}
    schema = {**fields.list_of(label), **least, "maxItems": MOST_LABELS}

    def check(value: Any) -> bool:
        if parse is not None:
            value = parse(value)
        return (
            isinstance(value, list)
            and len(value) <= MOST_LABELS
            and all(map(_is_label, value))
            and allowed(value)
        )

    text = f"a list of up to {MOST_LABELS} non-empty strings without periods or NUL"
    return fields.Strict(
        text + must,
        check,
        schema={**fields.STRING, "pattern": _LABELS} if parse else schema,
        convert=lambda value: tuple(parse(value) if parse else value),
        **options,
    )


def _is_lifetime(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value <= MAX_TTL_MINUTES


class ItemBody(Body):
    """Which item."""

    namespace = _namespace(
        ", at least one", bool, required=True, about=NAMESPACE, example=["users", "ada"]
    )
    key = fields.text(required=True, about=KEY, example="preferences")


class ItemQuery(Texts):
    """Which item; the labels of its namespace joined by periods."""

    namespace = _namespace(
        ", at least one",
        bool,
        parse=lambda text: text.split("."),
        required=True,
        about=NAMESPACE + " Joined by periods.",
        example="users.ada",
    )
    key = fields.text(required=True, about=KEY, example="preferences")
    refresh_ttl = fields.flag(
        load_default=None, about="Whether its time to live begins anew; as the store is set up."
    )


class PutItemBody(ItemBody):
    """An item to store."""

    example: ClassVar[Any] = {
        "namespace": ["users", "ada"],
        "key": "preferences",
        "value": {"language": "en"},
    }

    namespace = _namespace(
        f", at least one, the first not {_RESERVED!r}",
        lambda labels: bool(labels) and labels[0] != _RESERVED,
        required=True,
        about=NAMESPACE,
        example=["users", "ada"],
    )
    value = fields.json_object(required=True, about="What it holds.", example={"language": "en"})
    index = fields.Strict(
        "false, a list of strings, or null",
        lambda value: value is False or fields.is_strings(value),
        schema={
            "anyOf": [
                {"const": False},
                {**fields.list_of(fields.STRING), "maxItems": fields.MOST},
                {"type": "null"},
            ]
        },
        bound=fields.FEW,
        allow_none=True,
        about="Which of its fields are found by meaning; false for none.",
        example=["text"],
    )
    ttl = fields.Strict(
        f"minutes above 0 and at most {MAX_TTL_MINUTES:.0f}, or null",
        _is_lifetime,
        schema={
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "maximum": MAX_TTL_MINUTES,
        },
        allow_none=True,
        about="How many minutes it is kept; null for as long as the store is set up.",
        example=1440,
    )

    @validates_schema
    def _can_be_had(self, given: dict[str, Any], **_: Any) -> None:
        named = (".".join(given["namespace"]), given["key"])
        if sum(len(quote(each, safe="")) for each in named) > MOST_ENCODED:
            raise ValidationError(
                f"must be, with its namespace and URL-encoded, at most {MOST_ENCODED} bytes", "key"
            )


class SearchItemsBody(Body):
    """Which items to find."""

    namespace_prefix = _namespace(
        ", or null", allow_none=True, about="Where to look, and beneath it.", example=["users"]
    )
    filter = fields.filter_object(
        allow_none=True, about="Only items whose value has this.", example={"language": "en"}
    )
    limit = fields.integer(1, about="How many at most, 10 by default.", example=10)
    offset = fields.integer(0, about="How many to pass over.", example=0)
    query = fields.text(
        allow_none=True,
        about="What is looked for by meaning, where the store has an index.",
        example="what she likes to eat",
    )
    refresh_ttl = fields.boolean(
        allow_none=True, about="Whether their times to live begin anew.", example=True
    )


class NamespacesBody(Body):
    """Which namespaces to list."""

    prefix = _namespace("", about="How they begin.", example=["users"])
    suffix = _namespace("", about="How they end.", example=["notes"])
    max_depth = fields.integer(1, about="Cut to so many labels.", example=2)
    limit = fields.integer(1, about="How many at most, 100 by default.", example=100)
    offset = fields.integer(0, about="How many to pass over.", example=0)


GONE = Answer("It is gone.", status=HTTPStatus.NO_CONTENT)
# Where there is an index.
NOT_EMBEDDED = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)


@blueprint.put("/store/items")
@operation(
    body=PutItemBody(),
    gives=Answer("It is stored.", status=HTTPStatus.NO_CONTENT),
    refuses=NOT_EMBEDDED,
)
def put(body: dict[str, Any]) -> Response:
    """Store an item, or replace it."""
    # Null is what there is without it, as in all other fields.
    given = {name: value for name, value in body.items() if value is not None}
    given["namespace"] = _permitted("put", **{"index": None, **given})
    current.service().store.put(**given)
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.get("/store/items")
@operation(
    query=ItemQuery(),
    gives=Answer("The item, or null.", {"anyOf": [Item, {"type": "null"}]}),
)
def get(namespace: tuple[str, ...], key: str, refresh_ttl: bool | None) -> Response:
    """The item of a namespace, its labels joined by periods, and a key; null if there is none."""
    namespace = _permitted("get", namespace=namespace, key=key)
    item = current.service().store.get(namespace, key, refresh_ttl=refresh_ttl)
    return answer(item.dict() if item else None)


@blueprint.delete("/store/items")
@operation(body=ItemBody(), gives=GONE)
def delete(body: dict[str, Any]) -> Response:
    """Delete an item, if it is there."""
    current.service().store.delete(_permitted("delete", **body), body["key"])
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post("/store/items/search")
@operation(body=SearchItemsBody(), gives=Answer("The items.", FoundItems), refuses=NOT_EMBEDDED)
def search(body: dict[str, Any]) -> Response:
    """The items of a namespace and of all beneath it that pass a filter, a page of them.

    Those nearest to a query come first, if there is one.
    """
    store = current.service().store
    if body.get("query") and not store.has_index:
        raise InvalidRequest("query: the store has no index to search by meaning")
    prefix = body.pop("namespace_prefix", None) or ()
    asked = {name: body.get(name) for name in ("filter", "limit", "offset", "query")}
    found = store.search(_permitted("search", namespace=prefix, **asked), **body)
    return answer({"items": [item.dict() for item in found]})


@blueprint.post("/store/namespaces")
@operation(body=NamespacesBody(), gives=Answer("The namespaces.", Namespaces))
def namespaces(body: dict[str, Any]) -> Response:
    """The namespaces that have items, a page of them."""
    asked = {name: body.get(name) for name in ("suffix", "max_depth", "limit", "offset")}
    body["prefix"] = _permitted("list_namespaces", namespace=body.get("prefix"), **asked)
    return answer({"namespaces": current.service().store.list_namespaces(**body)})


def _permitted(action: str, **value: Any) -> Any:
    """The namespace that is to be used, if the caller may do this.

    Raises:
        InvalidRequest: it is one that the store cannot have.
    """
    before = value["namespace"]
    authorize("store", action, value)
    namespace = value["namespace"]
    if namespace is None or namespace == before:
        return namespace
    if isinstance(namespace, str) or not all(map(_is_label, namespace)):
        raise InvalidRequest(f"namespace: cannot be {namespace!r}, which it is for this caller")
    return tuple(namespace)
