"""/store: what graphs remember beyond their threads."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app, request
from marshmallow import ValidationError, validates_schema

from runwait.api import fields
from runwait.api.answers import answer
from runwait.api.errors import InvalidRequest
from runwait.api.request import json_body, query_flag
from runwait.api.schemas import Body
from runwait.storage.store import MAX_TTL_MINUTES, RedisStore

# What GET can have: gunicorn takes a request line of 4,094 bytes, and there is more in it.
MOST_ENCODED = 3900

blueprint = Blueprint("store", __name__)

# LangGraph keeps this first label for itself.
_RESERVED = "langgraph"
# An item is listed under each prefix of its namespace.
MOST_LABELS = 100


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "." not in value and "\0" not in value


def _namespace(
    must: str, allowed: Callable[[list[str]], bool] = lambda labels: True, **options: Any
) -> fields.Strict:
    """A list of labels, as a tuple."""

    def check(value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) <= MOST_LABELS
            and all(map(_is_label, value))
            and allowed(value)
        )

    text = f"a list of up to {MOST_LABELS} non-empty strings without periods or NUL"
    return fields.Strict(text + must, check, convert=tuple, **options)


def _is_lifetime(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value <= MAX_TTL_MINUTES


class _ItemBody(Body):
    """DELETE /store/items; and the query of GET."""

    namespace = _namespace(", at least one", bool, required=True)
    key = fields.text(required=True)


class _PutBody(_ItemBody):
    """PUT /store/items."""

    namespace = _namespace(
        f", at least one, the first not {_RESERVED!r}",
        lambda labels: bool(labels) and labels[0] != _RESERVED,
        required=True,
    )
    value = fields.json_object(required=True)
    index = fields.Strict(
        "false, a list of strings, or null",
        lambda value: value is False or fields.is_strings(value),
        bound=fields.FEW,
        allow_none=True,
    )
    ttl = fields.Strict(
        f"minutes above 0 and at most {MAX_TTL_MINUTES:.0f}, or null",
        _is_lifetime,
        allow_none=True,
    )

    @validates_schema
    def _can_be_had(self, given: dict[str, Any], **_: Any) -> None:
        named = (".".join(given["namespace"]), given["key"])
        if sum(len(quote(each, safe="")) for each in named) > MOST_ENCODED:
            raise ValidationError(
                f"must be, with its namespace and URL-encoded, at most {MOST_ENCODED} bytes", "key"
            )


class _SearchBody(Body):
    """POST /store/items/search."""

    namespace_prefix = _namespace(", or null", allow_none=True)
    filter = fields.filter_object(allow_none=True)
    limit = fields.integer(1)
    offset = fields.integer(0)
    query = fields.text(allow_none=True)
    refresh_ttl = fields.boolean(allow_none=True)


class _NamespacesBody(Body):
    """POST /store/namespaces."""

    prefix = _namespace("")
    suffix = _namespace("")
    max_depth = fields.integer(1)
    limit = fields.integer(1)
    offset = fields.integer(0)


_ITEM, _PUT, _SEARCH, _NAMESPACES = _ItemBody(), _PutBody(), _SearchBody(), _NamespacesBody()


@blueprint.put("/store/items")
def put() -> Response:
    """Store an item, or replace it."""
    # Null is what there is without it, as in all other fields.
    given = {name: value for name, value in _PUT.of(json_body()).items() if value is not None}
    _store().put(**given)
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.get("/store/items")
def get() -> Response:
    """The item of a namespace, its labels joined by periods, and a key; null if there is none."""
    asked: dict[str, Any] = {
        name: request.args[name] for name in ("namespace", "key") if name in request.args
    }
    if "namespace" in asked:
        asked["namespace"] = asked["namespace"].split(".")
    refresh = query_flag("refresh_ttl") if "refresh_ttl" in request.args else None
    item = _store().get(**_ITEM.of(asked), refresh_ttl=refresh)
    return answer(item.dict() if item else None)


@blueprint.delete("/store/items")
def delete() -> Response:
    """Delete an item, if it is there."""
    _store().delete(**_ITEM.of(json_body()))
    return Response(status=HTTPStatus.NO_CONTENT)


@blueprint.post("/store/items/search")
def search() -> Response:
    """The items of a namespace and of all beneath it that pass a filter, a page of them.

    Those nearest to a query come first, if there is one.
    """
    asked = _SEARCH.of(json_body())
    store = _store()
    if asked.get("query") and not store.has_index:
        raise InvalidRequest("query: the store has no index to search by meaning")
    found = store.search(asked.pop("namespace_prefix", None) or (), **asked)
    return answer({"items": [item.dict() for item in found]})


@blueprint.post("/store/namespaces")
def namespaces() -> Response:
    """The namespaces that have items, a page of them."""
    return answer({"namespaces": _store().list_namespaces(**_NAMESPACES.of(json_body()))})


def _store() -> RedisStore:
    store: RedisStore = current_app.extensions["runwait"].service.store
    return store
